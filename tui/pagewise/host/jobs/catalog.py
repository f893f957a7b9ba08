"""Looks for models on this machine, and judges what fits."""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from pagewise.host.jobs.child import messages_of
from pagewise.host.jobs.free_memory import free_memory
from pagewise.host.jobs.job import Job
from pagewise.jobs.catalog import Catalog, FindModels, ModelsFound
from pagewise.models.fits import with_room
from pagewise.models.telling import Step

_decoder: msgspec.msgpack.Decoder[Step | Catalog] = msgspec.msgpack.Decoder(Step | Catalog)


async def run(command: FindModels, job: Job) -> None:
    """Scan in a process of its own, so that neither a slow disk nor a large header holds up a token."""
    job.progress("looking", 0, 0)
    async with aclosing(messages_of("pagewise.models.catalog", (), _decoder)) as told:
        async for message in told:
            if isinstance(message, Step):
                job.progress(message.phase, message.done, message.total, detail=message.detail)
            else:
                job.send(ModelsFound(command.id, with_room(message, await free_memory(job))))

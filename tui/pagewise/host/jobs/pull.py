"""Fetches a model from the hub, or lists what a repository offers."""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from pagewise.host.jobs.child import messages_of
from pagewise.host.jobs.free_memory import free_memory
from pagewise.host.jobs.job import Job, JobError
from pagewise.jobs.pull import Brought, Pull, Pulled
from pagewise.models.fits import offers_with_room
from pagewise.models.telling import Failed, Step

_decoder: msgspec.msgpack.Decoder[Step | Failed | Brought] = msgspec.msgpack.Decoder(Step | Failed | Brought)


async def run(command: Pull, job: Job) -> None:
    """In a process of its own, which a cancel ends: what it has fetched stays, and the next pull goes on there."""
    arguments = (command.repository, command.quant, "list" if command.list_only else "fetch")
    async with aclosing(messages_of("pagewise.models.hub", arguments, _decoder)) as told:
        async for message in told:
            match message:
                case Step():
                    job.progress(message.phase, message.done, message.total, "bytes", message.detail)
                case Failed(failure=failure):
                    raise JobError(failure.what, failure.why, failure.next)
                case Brought():
                    offers = offers_with_room(message.offers, await free_memory(job))
                    job.send(Pulled(command.id, msgspec.structs.replace(message, offers=offers)))

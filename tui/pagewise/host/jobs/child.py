"""A process that works for one job, and is gone with it, however the job ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import msgspec

from pagewise.host.jobs.job import JobError
from pagewise.models.telling import LENGTH

_GRACE_S = 2.0
Message = TypeVar("Message")


async def messages_of(
    module: str, arguments: Sequence[str], decoder: msgspec.msgpack.Decoder[Message]
) -> AsyncGenerator[Message, None]:
    """What ``python -m module`` tells, until it ends. Raises JobError if it ends by an error.

    Closing it ends the process: by SIGTERM, and by SIGKILL where that does not help.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        while True:
            try:
                head = await process.stdout.readexactly(LENGTH.size)
                payload = await process.stdout.readexactly(LENGTH.unpack(head)[0])
            except asyncio.IncompleteReadError:
                break
            yield decoder.decode(payload)
        code = await process.wait()
        if code != 0:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise JobError(
                "This did not work", f"The process that did it ended {how}.", "The host's log says more; try it again."
            )
    finally:
        await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE_S)
            return

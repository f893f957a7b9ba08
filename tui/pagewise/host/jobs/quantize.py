"""Has an engine process of its own make a quant level."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from pagewise.host.jobs.job import Job, JobError
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.quantize import Quantize, Quantized
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.level_files import target_for
from pagewise.models.level_names import level_named
from pagewise.unnamed import remove_left


async def run(command: Quantize, job: Job) -> None:
    """Ending the process is how it is stopped: llama.cpp cannot be asked to. Raises LevelError."""
    request = await asyncio.to_thread(_in_full, command)
    pid: int | None = None
    try:
        async with job.side_engine() as engine:
            pid = engine.pid
            engine.send(request)
            async for event in engine.events():
                match event:
                    case JobProgress(phase=phase, done=done, total=total, unit=unit, detail=detail):
                        job.progress(phase, done, total, unit, detail)
                    case JobFailed(failure=failure):
                        raise JobError(failure.what, failure.why, failure.next)
                    case Quantized():
                        job.send(event)
                        return
    finally:
        if pid is not None:
            remove_left(Path(request.target), pid)


def _in_full(command: Quantize) -> Quantize:
    """With whole paths, the level by its proper name, and a target."""
    level = level_named(command.level)
    source = Path(command.source).expanduser().absolute()
    try:
        target = command.target or target_for(read_header(source), level)
    except GgufError as error:
        raise JobError(error.what, error.why, error.next) from error
    return msgspec.structs.replace(
        command,
        source=str(source),
        level=level,
        target=str(Path(target).expanduser().absolute()),
        imatrix=str(Path(command.imatrix).expanduser().absolute()) if command.imatrix else "",
    )

"""Finds the place in a model file that cannot be read, by reading it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pagewise.failure import Failure
from pagewise.host.engine_exit import EngineExit
from pagewise.host.gauges import model_parts
from pagewise.models.gguf import GgufError, printable, read_header
from pagewise.models.layers import layer_of

_CHUNK = 4 << 20
_PAGE = 4096


class DamageSearch:
    """Reads a model file in a thread after an engine has met a page that it could not have."""

    def __init__(self, tell: Callable[[Failure], None]) -> None:
        self._tell = tell
        self._stop = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def after(self, end: EngineExit | None) -> None:
        """An engine has ended like this: if it was for want of a page, look for it and tell."""
        if end is None or end.signal != signal.SIGBUS or end.at is None or not end.at.model:
            return
        task = asyncio.create_task(self._look(Path(end.at.model)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    async def _look(self, model: Path) -> None:
        damage = await asyncio.to_thread(find_damage, model, self._stop)
        if not self._stop.is_set():
            self._tell(told(damage, model))


class Damage(NamedTuple):
    """The first byte of ``path`` that cannot be read, the tensor that it belongs to, and what the system says."""

    path: Path
    offset: int
    tensor: str
    why: str


def find_damage(model: Path, stop: threading.Event) -> Damage | None:
    """The first one of all parts of ``model``; None if all of it could be read, or ``stop`` was set."""
    for path in model_parts(model):
        try:
            header = read_header(path, complete=False)
        except GgufError as error:
            return Damage(path, 0, "", str(error))
        try:
            size = path.stat().st_size
        except OSError as error:
            return Damage(path, 0, "", error.strerror or str(error))
        end = max((tensor.end for tensor in header.tensors), default=0)
        found = (size, f"the file ends there; {end:,} bytes belong to it") if size < end else _bad_place(path, stop)
        if found is not None:
            offset, why = found
            tensor = next((t.name for t in header.tensors if t.start <= offset < t.end), "")
            return Damage(path, offset, tensor, why)
    return None


def told(damage: Damage | None, model: Path) -> Failure:
    """What the person is told."""
    if damage is None:
        return Failure(
            f"{printable(model.name)} can be read now",
            "It was read from one end to the other without an error: it was being changed, or the disk has recovered.",
            "Load the profile again (F2). If it happens again, look at the system's log: `dmesg | tail`.",
        )
    where = f"byte {damage.offset:,}"
    if damage.tensor:
        layer = layer_of(damage.tensor)
        where += f", in {printable(damage.tensor)} ({f'layer {layer}' if layer.isdigit() else f'the {layer}'})"
    return Failure(
        f"{printable(damage.path.name)} cannot be read from {where}",
        f"The system says: {damage.why}.",
        "Fetch or copy the file again; if this file system has bad blocks, the system's log names the disk.",
    )


def _bad_place(path: Path, stop: threading.Event) -> tuple[int, str] | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        for start in range(0, size, _CHUNK):
            if stop.is_set():
                return None
            try:
                os.pread(descriptor, _CHUNK, start)
            except OSError:
                return _first_bad(descriptor, start, min(start + _CHUNK, size))
            if hasattr(os, "posix_fadvise"):
                # What is read here is not what the engine needs in memory.
                os.posix_fadvise(descriptor, start, _CHUNK, os.POSIX_FADV_DONTNEED)
        return None
    finally:
        os.close(descriptor)


def _first_bad(descriptor: int, start: int, end: int) -> tuple[int, str] | None:
    for offset in range(start, end, _PAGE):
        try:
            os.pread(descriptor, _PAGE, offset)
        except OSError as error:
            return offset, error.strerror or str(error)
    return None

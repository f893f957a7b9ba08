"""What an engine was at, in a file that outlives it: its model file and the layer that it computes.

A signal such as SIGBUS ends an engine between two instructions; the host then reads here what it was about to say.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import NamedTuple

_LAYER_BYTES = 32
_BYTES = mmap.PAGESIZE


class LastSeen(NamedTuple):
    """``model``: path of the file in use. ``layer``: its name; ``?`` some layer, empty none."""

    model: str
    layer: str


class Trace:
    """Written by the engine. Without a file it does nothing."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self._path: Path | None = None

    def open(self, log: str | None) -> None:
        """Begin beside the engine's log, where the host will look."""
        if not log:
            return
        self._path = trace_path(Path(log), os.getpid())
        try:
            with self._path.open("w+b") as file:
                file.truncate(_BYTES)
                self._map = mmap.mmap(file.fileno(), _BYTES)
        except OSError:
            # A full or read-only disk: the host then says less of a crash, and that is all.
            self._map = None

    def model(self, path: str) -> None:
        """This file is in use from now on."""
        if self._map is not None:
            text = path.encode("utf-8", errors="surrogateescape")[: _BYTES - _LAYER_BYTES]
            self._map[_LAYER_BYTES:] = text.ljust(_BYTES - _LAYER_BYTES, b"\0")

    def layer(self, name: str) -> None:
        """This layer is computed; ``?`` one that is not known, empty none."""
        if self._map is not None:
            self._map[:_LAYER_BYTES] = name.encode()[:_LAYER_BYTES].ljust(_LAYER_BYTES, b"\0")

    def close(self) -> None:
        """Nothing is to be told: the engine ends in good order."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


trace = Trace()


def trace_path(log: Path, pid: int) -> Path:
    """Where engine ``pid`` writes."""
    return log.with_name(f"{log.stem}-{pid}.at")


def last_seen(log: Path, pid: int) -> LastSeen | None:
    """What engine ``pid`` was at when it ended; it is forgotten then."""
    path = trace_path(log, pid)
    try:
        raw = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    layer, model = raw[:_LAYER_BYTES].rstrip(b"\0"), raw[_LAYER_BYTES:].rstrip(b"\0")
    return LastSeen(model.decode("utf-8", errors="surrogateescape"), layer.decode(errors="replace"))

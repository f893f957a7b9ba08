"""Files to which one line of JSON is added at a time, and from which whole lines come back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import platformdirs

_MOST_BYTES = 16 * 1024 * 1024
Line = TypeVar("Line")


def tune_folder() -> Path:
    """Where the tuner keeps what it has learned, in the user's state folder."""
    return platformdirs.user_state_path("pagewise") / "tune"


def add_line(path: Path, line: Any) -> None:
    """In one write: a kill in the middle leaves at most one line that is cut. A folder that cannot be written to costs
    the memory of it, and nothing else.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(line) + b"\n")
        finally:
            os.close(descriptor)


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """Oldest first; lines that are cut or of another version are left out."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return []
    found = []
    for line in raw:
        with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            found.append(msgspec.json.decode(line, type=kind))
    return found

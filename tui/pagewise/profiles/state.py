"""What is remembered from one run to the next without being asked for: the last profile, the theme."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import platformdirs

from pagewise.atomic import write_atomically


def state_file() -> Path:
    """The file that holds it, in the user's state folder."""
    return platformdirs.user_state_path("pagewise") / "state.json"


def recall(key: str) -> str | None:
    """What was remembered under ``key``, or None: never remembered, or the file cannot be read."""
    return _read().get(key)


def remember(key: str, value: str) -> None:
    """Keep ``value`` for the next run. Where the folder cannot be written to it is forgotten, and nothing else."""
    values = _read()
    if values.get(key) == value:
        return
    values[key] = value
    with contextlib.suppress(OSError):
        write_atomically(state_file(), msgspec.json.encode(values))


def _read() -> dict[str, str]:
    try:
        return msgspec.json.decode(state_file().read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return {}

"""What SQLite says when it fails, in words that help."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pagewise.messages import Failure

_FULL = "full"
_BUSY = ("locked", "busy")
_READ_ONLY = ("readonly", "read-only", "unable to open", "permission")
_CORRUPT = ("malformed", "not a database", "corrupt", "disk image")


def failure_of(error: sqlite3.Error | OSError, path: Path) -> Failure:
    """The failure that ``error`` means for the history in ``path``."""
    said = str(error).lower()
    if _FULL in said or (isinstance(error, OSError) and error.errno == 28):
        return Failure(
            "Conversations are not being saved",
            f"The disk that holds {path} is full.",
            "Free some space: what is said meanwhile is kept in memory and saved as soon as there is room.",
        )
    if any(word in said for word in _BUSY):
        return Failure(
            "Conversations are not being saved",
            f"Another program holds {path} locked.",
            "Close it: what is said meanwhile is kept in memory and saved as soon as the lock is gone.",
        )
    if any(word in said for word in _CORRUPT):
        return Failure(
            "Earlier conversations cannot be read",
            f"{path} is damaged or not a history of pagewise ({error}).",
            "Move the file away to begin a new history; this conversation is kept in memory only.",
        )
    if any(word in said for word in _READ_ONLY) or isinstance(error, OSError):
        return Failure(
            "Conversations are not being saved",
            f"{path} cannot be written to ({error}).",
            "Check the permissions of the file and its folder; this conversation is kept in memory only.",
        )
    return Failure(
        "Conversations are not being saved",
        f"SQLite says of {path}: {error}.",
        "This conversation is kept in memory; start pagewise again once the cause is gone.",
    )

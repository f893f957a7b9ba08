"""How deep in a conversation a person's replies are made: the depth that a tune should measure at."""

from __future__ import annotations

import sqlite3
import statistics
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from pagewise.history.store import history_file
from pagewise.readings import TurnTiming

_LATEST = 200


class UsualDepth(NamedTuple):
    """Tokens in the KV cache before a message: their median over so many messages that were replied to."""

    tokens: int
    replies: int


def usual_depth(model: str, path: Path | None = None) -> UsualDepth | None:
    """Of the latest replies of the model of this name, in any conversation; None where there is none.

    A history that is not there or cannot be read is one without replies, and is left as it is.
    """
    file = path or history_file()
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                """SELECT timing FROM message WHERE role = 'assistant' AND model = ? AND timing IS NOT NULL
                   ORDER BY id DESC LIMIT ?""",
                (model, _LATEST),
            ).fetchall()
    except sqlite3.Error:
        return None
    depths = [depth for (blob,) in rows if (depth := _depth(blob)) is not None]
    return UsualDepth(round(statistics.median(depths)), len(depths)) if depths else None


def _depth(blob: bytes) -> int | None:
    try:
        timing = msgspec.json.decode(blob, type=TurnTiming)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if timing.depth is None:
        return None
    # What was evaluated anew is the message itself, or what a fresh engine had lost: no depth that it stood behind.
    return max(0, timing.depth - (timing.n_prompt - timing.n_reused))

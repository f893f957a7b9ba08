"""What a person is told when something did not work."""

from __future__ import annotations

from msgspec import Struct


class Failure(Struct, frozen=True):
    """Something a person has to know: what happened, why, and what to do next. One or two sentences each."""

    what: str
    why: str
    next: str

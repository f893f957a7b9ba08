"""What is under way: a load, a turn."""

from __future__ import annotations

from dataclasses import dataclass

from pagewise.app.entries import Question, Reply
from pagewise.messages import Prefill
from pagewise.settings import Profile


@dataclass
class LoadState:
    """A load that is under way."""

    id: int
    profile: Profile
    switch: bool
    """Whether the person asked for it, rather than the start of the program."""
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    cancelling: bool = False


@dataclass
class Turn:
    """A question that is being answered."""

    id: int
    question: Question
    reply: Reply
    stored: int | None
    """The reply's id in the history."""
    prefill: Prefill | None = None

"""What a history gives back: conversations and their messages, as values."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.messages import ChatMessage, Failure, StopReason
from pagewise.readings import TurnTiming


class HistoryError(Exception):
    """Conversations cannot be read or kept; ``failure`` says why and what to do."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what}: {failure.why}")
        self.failure = failure


class ConversationRow(Struct, frozen=True):
    """One conversation in a list. ``title`` is the beginning of its first question; times are seconds since 1970."""

    id: int
    title: str
    profile: str
    started_at: float
    updated_at: float
    n_messages: int


class StoredMessage(Struct, frozen=True):
    """One message as it was kept.

    ``reason`` of a reply: how it ended; ``interrupted``: its program ended first; None: it is being written now, or
    the message is a question.
    """

    id: int
    role: Literal["user", "assistant"]
    text: str
    at: float
    ids: tuple[int, ...] = ()
    vocabulary: str = ""
    profile: str = ""
    model: str = ""
    reason: StopReason | Literal["interrupted"] | None = None
    timing: TurnTiming | None = None

    def chat(self) -> ChatMessage:
        """The message as an engine takes it."""
        return ChatMessage(self.role, self.text, self.ids, self.vocabulary)

"""What stands in a conversation: questions, replies and remarks. Plain data; drawing is transcript's work."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from pagewise.app.effect import Effect
from pagewise.app.visible import visible
from pagewise.messages import ChatMessage, Failure, StopReason
from pagewise.readings import TurnTiming

Ending = StopReason | Literal["interrupted"]


@dataclass(eq=False)
class Entry:
    """Anything that stands in the conversation. ``revision`` grows whenever it must be drawn again."""

    revision: int = field(default=0, init=False)

    def changed(self) -> None:
        """It must be drawn again."""
        self.revision += 1


@dataclass(eq=False)
class Question(Entry):
    """What the person said."""

    text: str
    waiting: bool = False
    """Not sent yet: a model is being loaded, or another reply is being written."""
    asked_s: float = field(default_factory=perf_counter)
    """When it was asked, by this process's clock."""


@dataclass(eq=False)
class Reply(Entry):
    """What a model answered, as far as it has arrived."""

    profile: str
    model: str
    vocabulary: str = ""
    raw: str = ""
    """The text as the model gave it: what is stored and sent back."""
    ids: list[int] = field(default_factory=list)
    ending: Ending | None = None
    """None while it is being written."""
    stopping: bool = False
    failure: Failure | None = None
    timing: TurnTiming | None = None
    fresh: str = ""
    """Text that has arrived since it was last drawn, safe to show."""
    shown: str = ""
    """All of its text, safe to show."""
    _held: str = ""

    def take(self, text: str, ids: tuple[int, ...]) -> None:
        """Append what has just arrived."""
        self.raw += text
        self.ids += ids
        text = self._held + text
        self._held = ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        safe = visible(text)
        self.shown += safe
        self.fresh += safe
        self.changed()

    def end(self, ending: Ending, timing: TurnTiming | None = None, failure: Failure | None = None) -> None:
        """It is over."""
        if self._held:
            self.fresh += visible(self._held)
            self.shown += visible(self._held)
            self._held = ""
        self.ending, self.timing, self.failure = ending, timing, failure
        self.stopping = False
        self.changed()

    def drawn(self) -> str:
        """Take the text that has arrived since the last call."""
        fresh, self.fresh = self.fresh, ""
        return fresh


@dataclass(eq=False)
class Remark(Entry):
    """Something that was said by the program, where the person is looking: a failure, or a quiet note."""

    text: str = ""
    failure: Failure | None = None


@dataclass(eq=False)
class Outcome(Entry):
    """What a switch changed: one line, until it is dismissed."""

    effect: Effect


def chat_messages(entries: list[Entry], upto: Question) -> tuple[ChatMessage, ...]:
    """The conversation up to and with one question, as an engine takes it.

    Of several replies to one question only the last counts; replies of which nothing arrived, questions that got no
    reply, and remarks are left out.
    """
    messages: list[ChatMessage] = []
    for entry in entries:
        if isinstance(entry, Question):
            if messages and messages[-1].role == "user":
                messages.pop()
            if entry.waiting and entry is not upto:
                continue
            messages.append(ChatMessage("user", entry.text))
        elif isinstance(entry, Reply) and entry.raw:
            if messages and messages[-1].role == "assistant":
                messages.pop()
            messages.append(ChatMessage("assistant", entry.raw, tuple(entry.ids), entry.vocabulary))
        if entry is upto:
            break
    return tuple(messages)

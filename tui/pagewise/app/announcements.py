"""What the session tells the screens. Workers and the session never touch a widget: they post these.

An announcement that has not been handled yet is replaced by a newer one of its kind, so that a fast engine cannot fill
the queue.
"""

from __future__ import annotations

from textual.message import Message

from pagewise.messages import Failure
from pagewise.readings import MonitorSample


class Announcement(Message):
    """Something changed; the screen reads the session for what."""

    bubble = False

    def can_replace(self, message: Message) -> bool:
        """Only the newest of a kind counts."""
        return type(message) is type(self)


class EntriesChanged(Announcement):
    """The conversation has new entries, or some changed."""


class StateChanged(Announcement):
    """Model, profile, load or turn changed."""


class ReadoutChanged(Announcement):
    """There is something new for the gauges."""


class GivenBack(Announcement):
    """A question that was not sent: its text goes back to where it can be edited."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def can_replace(self, message: Message) -> bool:
        """Each one counts."""
        return False


class SwitchFailed(Announcement):
    """A profile that was asked for is not in force; said in the conversation as well."""

    def __init__(self, failure: Failure, restored: str | None) -> None:
        super().__init__()
        self.failure = failure
        self.restored = restored


class BoxSampled(Announcement):
    """One sample of all models on the box, for the monitor."""

    def __init__(self, sample: MonitorSample) -> None:
        super().__init__()
        self.sample = sample

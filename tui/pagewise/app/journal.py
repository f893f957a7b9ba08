"""The conversation in memory, and its copy on disk that is written while it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pagewise.app.entries import Entry, Question, Reply
from pagewise.messages import Failure, StopReason
from pagewise.readings import TurnTiming

if TYPE_CHECKING:
    from pagewise.history.records import ConversationRow, StoredMessage
    from pagewise.history.store import History


class Journal:
    """The entries of the present conversation. The history is opened when it is needed, after the first frame."""

    def __init__(self, history: History | None, on_failure: Callable[[Failure], None], profile: str) -> None:
        """``history`` None: the user's own. ``on_failure`` may be called from any thread."""
        self.entries: list[Entry] = []
        self.conversation: int | None = None
        self.profile = profile
        self._history = history
        self._on_failure = on_failure
        self._opening = threading.Lock()

    @property
    def history(self) -> History:
        """The store; in memory where the user's own cannot be opened, which is told."""
        with self._opening:
            if self._history is None:
                from pagewise.history.records import HistoryError
                from pagewise.history.store import History

                try:
                    self._history = History(None, self._on_failure)
                except HistoryError as error:
                    self._history = History.in_memory(self._on_failure)
                    self._on_failure(error.failure)
            return self._history

    def begin(self, question: str | None, reply: Reply) -> int:
        """Keep a question (None: asked before) and begin its reply; the reply's id in the store."""
        if self.conversation is None:
            self.conversation = self.history.new_conversation(self.profile)
        if question is not None:
            self.history.add_user(self.conversation, question)
        return self.history.begin_reply(self.conversation, reply.profile, reply.model, reply.vocabulary)

    def append(self, stored: int | None, text: str, ids: Sequence[int]) -> None:
        """Keep what has just arrived."""
        if stored is not None:
            self.history.append(stored, text, ids)

    def finish(self, stored: int | None, reason: StopReason, timing: TurnTiming | None) -> None:
        """The reply is over."""
        if stored is not None:
            self.history.finish(stored, reason, timing)

    def leave(self) -> None:
        """Nothing is open any more; the next question begins a conversation."""
        self.conversation = None
        self.entries.clear()

    def conversations(self, search: str = "", limit: int = 200) -> list[ConversationRow]:
        """The latest ones first. Raises HistoryError."""
        return self.history.conversations(limit, search)

    def stored(self, conversation: int) -> list[StoredMessage]:
        """The messages of a conversation. Raises HistoryError."""
        return self.history.messages(conversation)

    def last(self) -> int | None:
        """The conversation that was used last. Raises HistoryError."""
        return self.history.last()

    def enter(self, conversation: int, stored: Sequence[StoredMessage]) -> None:
        """Go on with a stored conversation."""
        self.conversation = conversation
        self.entries[:] = [_entry(message) for message in stored]

    def delete(self, conversation: int) -> None:
        """Delete a conversation for good."""
        self.history.delete(conversation)
        if conversation == self.conversation:
            self.leave()

    def close(self) -> None:
        """Write what waits."""
        if self._history is not None:
            self._history.close()


def _entry(message: StoredMessage) -> Entry:
    if message.role == "user":
        return Question(message.text)
    reply = Reply(message.profile, message.model, message.vocabulary)
    reply.take(message.text, message.ids)
    reply.end(message.reason or "interrupted", message.timing)
    return reply

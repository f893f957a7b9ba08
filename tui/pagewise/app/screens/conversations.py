"""F4: earlier conversations. Typing filters them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual import events, on
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.figures import ago
from pagewise.app.screens.sheet import Sheet
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, Span, ends, wrap
from pagewise.app.visible import visible, visible_line
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page

if TYPE_CHECKING:
    from pagewise.history.records import ConversationRow
    from pagewise.messages import Failure

_AROUND_LIST = 5
"""Rows of the line that is typed in and of the note."""


def draw_conversation(row: ConversationRow, now: float, here: bool, width: int) -> Line:
    """Its first question, and when it was."""
    right: list[Span] = [("here  ", "accent")] if here else []
    if width >= 60:
        right.append((f"{row.n_messages:>4} messages  ", "muted"))
    right.append((f"{ago(now - row.updated_at):>12}", "muted"))
    return ends(((visible_line(row.title) or "(nothing was asked)", "text"),), right, width)


class ConversationsScreen(Sheet[bool]):
    """Open, begin, delete. Its result is True if the chat shows another conversation now."""

    CSS_PATH = ["sheet.tcss", "conversations.tcss"]
    KEYS = [("⏎", "open"), ("↑↓", "choose"), ("^N", "new"), ("^D", "delete"), ("Esc", "close")]
    BINDINGS = [("f4", "close", "Close")]

    def __init__(self, session: Session) -> None:
        super().__init__("Conversations", "type to filter")
        self._session = session
        self._found: list[ConversationRow] = []
        self._failure: Failure | None = None
        self._deleting: ConversationRow | None = None
        self._changed = False

    def body(self) -> list[Widget]:
        """A line to type in, and the list."""
        return [
            Field("words of the conversation"),
            Listing("No conversation is stored yet.", id="list"),
            Page(self._note, id="note"),
        ]

    def fit(self, room: int) -> None:
        """The list takes what the line that is typed in and the note leave."""
        self.query_one("#list").styles.max_height = max(room - _AROUND_LIST, 1)

    def on_mount(self) -> None:
        """The latest ones."""
        super().on_mount()
        self.query_one("#note").can_focus = False
        self.query_one("#list").can_focus = False
        self.query_one(Field).focus()
        self._search("")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._deleting = None
        self._search(event.value)

    def _search(self, words: str) -> None:
        self.run_worker(lambda: self._read(words), thread=True, exclusive=True, group="search", exit_on_error=True)

    def _read(self, words: str) -> None:
        from pagewise.history.records import HistoryError

        try:
            found, failure = self._session.journal.conversations(words), None
        except HistoryError as error:
            found, failure = [], error.failure
        self.app.call_from_thread(self._show, words, found, failure)

    def _show(self, words: str, found: list[ConversationRow], failure: Failure | None) -> None:
        if words == self.query_one(Field).value:
            self._found, self._failure = found, failure
            self._rows()

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def _rows(self) -> None:
        listing = self.query_one(Listing)
        width, now, here = listing.content_size.width - 2, time.time(), self._session.journal.conversation
        listing.show([draw_conversation(row, now, row.id == here, width) for row in self._found])
        self.query_one("#note", Page).repaint()

    def _note(self, width: int) -> list[Line]:
        if self._failure is not None:
            words = f"{self._failure.what} {self._failure.why} {self._failure.next}"
            return [BLANK, *wrap((("▲ ", "warn"), (visible(words), "text")), width, rest=2)]
        if self._deleting is not None:
            title = visible_line(self._deleting.title)
            asked = (f"Delete “{title}” for good? ", "text")
            how = (("^D", "value"), (" again deletes, any other key keeps it", "muted"))
            return [BLANK, *wrap((("▲ ", "warn"), asked, *how), width, rest=2)]
        return []

    async def on_key(self, event: events.Key) -> None:
        """The list is steered from the line that is typed in."""
        listing = self.query_one(Listing)
        if event.key == "ctrl+d":
            event.stop()
            self._delete()
            return
        if self._deleting is not None:
            self._deleting = None
            self._rows()
            if event.key == "escape":
                event.stop()
                event.prevent_default()
                return
        if event.key == "ctrl+n":
            event.stop()
            self._session.new_conversation()
            self.dismiss(True)
        elif event.key in ("up", "down", "pageup", "pagedown", "enter"):
            event.stop()
            event.prevent_default()
            listing.handle_list_key(event.key)

    def _delete(self) -> None:
        index = self.query_one(Listing).chosen
        if index >= len(self._found):
            return
        row = self._found[index]
        if self._deleting is None or self._deleting.id != row.id:
            self._deleting = row
        else:
            self._deleting = None
            if row.id == self._session.journal.conversation:
                self._session.new_conversation()
                self._changed = True
            self._session.journal.delete(row.id)
            self._found.remove(row)
        self._rows()

    @on(Listing.Taken)
    def _taken(self, event: Listing.Taken) -> None:
        from pagewise.history.records import HistoryError

        row = self._found[event.row]
        try:
            if row.id != self._session.journal.conversation:
                self._session.open_conversation(row.id)
                self._changed = True
        except HistoryError as error:
            self._failure = error.failure
            self._rows()
            return
        self.dismiss(self._changed)

    def action_close(self) -> None:
        """Close."""
        self.dismiss(self._changed)

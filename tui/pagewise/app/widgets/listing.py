"""A list of rows, one of which is chosen; it scrolls with it."""

from __future__ import annotations

from textual import events
from textual.message import Message

from pagewise.app.spans import Line, Span, fill
from pagewise.app.widgets.painted import Painted


class Listing(Painted):
    """Rows as lines. Up, Down, PageUp, PageDown, Home and End choose; Enter takes."""

    can_focus = True

    class Moved(Message):
        """Another row is chosen."""

    class Taken(Message):
        """Enter, or a double click."""

        def __init__(self, row: int) -> None:
            super().__init__()
            self.row = row

    def __init__(self, empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: list[Line] = []
        self._empty = empty
        self.chosen = 0
        self._first = 0

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def show(self, rows: list[Line]) -> None:
        """Other rows; the choice stays at its place."""
        self._rows = rows
        self.chosen = max(0, min(self.chosen, len(rows) - 1))
        if self.is_mounted:
            self.styles.height = max(len(rows), 1)
        self.repaint()

    def on_mount(self) -> None:
        """As high as its rows, where there is room."""
        self.styles.height = max(len(self._rows), 1)

    def paint(self, width: int, height: int) -> list[Line]:
        """The rows around the chosen one; arrows say that there are more."""
        if not self._rows:
            return [((self._empty, "muted"),)]
        self._first = max(min(self._first, self.chosen), self.chosen - height + 1)
        self._first = max(0, min(self._first, len(self._rows) - height))
        shown: list[Line] = []
        for index, row in enumerate(self._rows[self._first : self._first + height], self._first):
            here = index == self.chosen
            more = " "
            if index == self._first > 0:
                more = "↑"
            elif index == self._first + height - 1 < len(self._rows) - 1:
                more = "↓"
            mark: Span = (f"{'▸' if here else more} ", "accent")
            spans = [mark, *((text, f"{role} strong" if here else role) for text, role in row)]
            shown.append(fill(spans, width))
        return shown

    def move(self, rows: int) -> None:
        """Choose another row."""
        chosen = max(0, min(self.chosen + rows, len(self._rows) - 1))
        if chosen != self.chosen:
            self.chosen = chosen
            self.repaint()
            self.post_message(self.Moved())

    def take(self) -> None:
        """Take the chosen row."""
        if self._rows:
            self.post_message(self.Taken(self.chosen))

    def on_key(self, event: events.Key) -> None:
        """Choosing and taking."""
        if not self.handle_list_key(event.key):
            return
        event.stop()
        event.prevent_default()

    def handle_list_key(self, key: str) -> bool:
        """Whether the key means something to a list."""
        page = max(self.content_size.height - 1, 1)
        steps = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -1_000_000, "end": 1_000_000}
        if key in steps:
            self.move(steps[key])
        elif key == "enter":
            self.take()
        else:
            return False
        return True

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked; a second click takes it."""
        row = event.y + self._first
        if row < len(self._rows):
            self.move(row - self.chosen)
            if event.chain > 1:
                self.take()

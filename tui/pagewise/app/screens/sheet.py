"""The base of what opens over the chat: one sheet with a title, a body and its keys. Esc closes it."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget

from pagewise.app.spans import Line, clip, ends, line, width_of
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.painted import Painted

Result = TypeVar("Result")


class Title(Painted):
    """First line of a sheet."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(id="title")
        self._left, self._right = left, right

    def paint(self, width: int, height: int) -> list[Line]:
        """The line."""
        left = line((self._left, "strong accent"))
        return [ends(left, clip(((self._right, "muted"),), width - width_of(left) - 2), width)]


class Sheet(ModalScreen[Result]):
    """A sheet over the chat. Its result is None when it is closed with Esc."""

    CSS_PATH: ClassVar[str | list[str] | None] = "sheet.tcss"  # type: ignore[assignment, unused-ignore]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", show=False),
        Binding("ctrl+z", "app.suspend_process", "Suspend", show=False, priority=True),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (16, "-roomy")]
    KEYS: ClassVar[list[Key]] = []

    def __init__(self, heading: str, note: str = "") -> None:
        super().__init__()
        self._heading, self._aside = heading, note

    def compose(self) -> ComposeResult:
        """Title, body, keys."""
        with Vertical(id="sheet"):
            yield Title(self._heading, self._aside)
            yield from self.body()
            yield Keys(self.KEYS)

    def body(self) -> list[Widget]:
        """What stands between title and keys."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Fit the body into the height there is."""
        self._fit()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the body into the height there is."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        sheet = self.query_one("#sheet")
        around = sum(child.styles.margin.height + 1 for child in (self.query_one(Title), self.query_one(Keys)))
        self.fit(max(self.size.height - around - sheet.styles.gutter.height, 1))

    def fit(self, room: int) -> None:
        """Give the body this many rows at most."""
        for page in self.query(".page"):
            page.styles.max_height = room

    def repaint(self) -> None:
        """Draw again what has changed."""
        for widget in self.query(Painted):
            widget.repaint()

    def action_close(self) -> None:
        """Nothing was chosen."""
        self.dismiss(None)

"""A page of text that scrolls: help, explanations."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.geometry import Size

from pagewise.app.spans import Line, clip
from pagewise.app.widgets.painted import Painted


class Page(Painted):
    """Lines from a function of the width. Up, Down, PageUp, PageDown, Home and End scroll."""

    can_focus = True

    def __init__(self, draw: Callable[[int], list[Line]], *, id: str | None = None) -> None:
        super().__init__(id=id, classes="page")
        self._draw = draw
        self._top = 0
        self._height = 0

    def paint(self, width: int, height: int) -> list[Line]:
        """The part that is seen; the last line tells that there is more."""
        lines = self._draw(width)
        self._height = len(lines)
        last = max(len(lines) - height, 0)
        self._top = max(0, min(self._top, last))
        shown = lines[self._top : self._top + height]
        if self._top < last and height > 1:
            shown[-1] = clip((("↓ more", "muted"),), width)
        return shown

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as its text, where there is room."""
        return len(self._draw(width))

    def repaint(self) -> None:
        """Draw again, in another height if the text has one."""
        if len(self._draw(max(self.content_size.width, 1))) != self._height:
            self.refresh(layout=True)
        super().repaint()

    def on_key(self, event: events.Key) -> None:
        """Scrolling."""
        page = max(self.content_size.height - 2, 1)
        steps = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -1_000_000, "end": 1_000_000}
        if event.key in steps:
            self._top = self._top + steps[event.key]
            event.stop()
            event.prevent_default()
            self.repaint()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Up."""
        self._top -= 2
        self.repaint()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Down."""
        self._top += 2
        self.repaint()

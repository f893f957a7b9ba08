"""The flame graph on the screen: choose, zoom, search."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.message import Message

from pagewise.app.profiler.drawing import draw_row
from pagewise.app.profiler.flame import Box, Frame, layout, matching, trunk_end
from pagewise.app.spans import BLANK, Line
from pagewise.app.widgets.painted import Painted

_AT_THE_END = 1_000_000


class FlameGraph(Painted):
    """Arrows choose a frame, Enter zooms into it, Backspace out again."""

    can_focus = True

    class Moved(Message):
        """Another frame is chosen, or another one fills the width."""

    def __init__(self, empty: Callable[[int], list[Line]]) -> None:
        """``empty``: what is said where there is no graph, by the width."""
        super().__init__(id="flame")
        self._empty = empty
        self.root: Frame | None = None
        self.top: Frame | None = None
        """The frame that fills the width."""
        self.chosen: Frame | None = None
        self.found: list[Frame] = []
        """What the search found, the widest first."""
        self._words = ""
        self._first = 0
        self._rows: list[list[Box]] = []
        self._laid: tuple[int, int] = (0, 0)

    def show(self, root: Frame | None) -> None:
        """Another graph."""
        self.root = self.top = self.chosen = root if root is not None and root.samples else None
        if self.root is not None:
            # Below the calls that everything goes through is where it becomes telling.
            self.chosen = trunk_end(self.root)
        self._first = _AT_THE_END
        self._laid = (0, 0)
        self.search(self._words)

    def search(self, words: str) -> None:
        """Light up the frames that hold these words; nothing: all of them."""
        self._words = words
        self.found = matching(self.root, words) if self.root is not None else []
        self.repaint()

    def next_found(self) -> None:
        """Choose the next frame that the search found."""
        if self.found and self.chosen is not None:
            at = next((index for index, frame in enumerate(self.found) if frame is self.chosen), -1)
            self._choose(self.found[(at + 1) % len(self.found)])

    def zoom_out(self) -> bool:
        """Back to the caller's width. False if the whole is shown already."""
        if self.top is None or self.top.parent is None:
            return False
        self._zoom(self.root)
        return True

    def paint(self, width: int, height: int) -> list[Line]:
        """The rows around the chosen frame."""
        if self.top is None or self.chosen is None:
            return self._empty(width)[:height]
        self._lay_out(width)
        row = next((box.row for boxes in self._rows for box in boxes if box.frame is self.chosen), 0)
        self._first = max(min(self._first, max(row - 1, 0)), row - height + 2)
        self._first = max(0, min(self._first, len(self._rows) - height))
        lit = {id(frame) for frame in self.found} if self._words.strip() else None
        shown = self._rows[self._first : self._first + height]
        return [draw_row(boxes, width, self.chosen, lit) if boxes else BLANK for boxes in shown]

    def on_key(self, event: events.Key) -> None:
        """Choosing and zooming."""
        if self.chosen is None or self.top is None:
            return
        if event.key == "enter":
            self._zoom(self.chosen)
        elif event.key == "backspace":
            self.zoom_out()
        elif event.key == "up":
            if self.chosen is not self.top and self.chosen.parent is not None:
                self._choose(self.chosen.parent)
        elif event.key == "down":
            if self.chosen.callees:
                self._choose(self.chosen.children()[0])
        elif event.key in ("left", "right"):
            self._beside(1 if event.key == "right" else -1)
        elif event.key == "home":
            self._choose(self.top)
        else:
            return
        event.stop()
        event.prevent_default()

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked; a second click zooms into it."""
        row = event.y + self._first
        for box in self._rows[row] if row < len(self._rows) else ():
            if box.start // 8 <= event.x <= (box.end - 1) // 8:
                self._choose(box.frame)
                if event.chain > 1:
                    self._zoom(box.frame)
                return

    def _beside(self, step: int) -> None:
        """The next frame of the row that is wide enough to be seen."""
        self._lay_out(self.content_size.width)
        for boxes in self._rows:
            seen = [box.frame for box in boxes if box.frame is self.chosen or box.end - box.start >= 8]
            at = next((index for index, frame in enumerate(seen) if frame is self.chosen), None)
            if at is not None:
                self._choose(seen[max(0, min(at + step, len(seen) - 1))])
                return

    def _choose(self, frame: Frame) -> None:
        self.chosen = frame
        if self.top is not None and all(above is not self.top for above in frame.path()):
            self.top = self.root
        self.repaint()
        self.post_message(self.Moved())

    def _zoom(self, frame: Frame | None) -> None:
        self.top = frame
        if frame is not None and (self.chosen is None or all(above is not frame for above in self.chosen.path())):
            self.chosen = frame
        self.repaint()
        self.post_message(self.Moved())

    def _lay_out(self, width: int) -> None:
        if self.top is None or self._laid == (id(self.top), width):
            return
        self._laid = (id(self.top), width)
        self._rows = []
        for box in layout(self.top, width):
            while len(self._rows) <= box.row:
                self._rows.append([])
            self._rows[box.row].append(box)

"""The gauges on the screen: the column beside the chat, and the three lines they fold into."""

from __future__ import annotations

from textual import events
from textual.message import Message

from pagewise.app.gauges import bound_by
from pagewise.app.gauges.column import GAUGES, draw_column
from pagewise.app.gauges.folded import draw_folded
from pagewise.app.gauges.gauge import Gauge
from pagewise.app.readout import Readout
from pagewise.app.spans import BLANK, Line, Span, fill
from pagewise.app.widgets.painted import Painted

_MARGIN = 1


class GaugeColumn(Painted):
    """All gauges. With the focus, up and down choose one, ``?`` or enter explains it.

    ``d`` opens the details, ``c`` the memory curve.
    """

    can_focus = True

    class Explain(Message):
        """The person wants to know what a gauge is."""

        def __init__(self, gauge: Gauge) -> None:
            super().__init__()
            self.gauge = gauge

    class Details(Message):
        """The person wants all that is known of the last reply."""

    class Curve(Message):
        """The person wants to see what memory does to the decode rate."""

    class Left(Message):
        """Back to the chat."""

    def __init__(self, readout: Readout) -> None:
        super().__init__(id="gauges")
        self._readout = readout
        self._places: tuple[tuple[int, int], ...] = ()
        self.chosen = 0
        self._first = 0

    def paint(self, width: int, height: int) -> list[Line]:
        """The column, scrolled so that the chosen gauge is seen."""
        column = draw_column(self._readout, max(width - 2 * _MARGIN, 1), height)
        self._places = column.places
        lines = column.lines
        last = max(len(lines) - height, 0)
        if self.has_focus:
            top, length = column.places[self.chosen]
            self._first = max(min(self._first, top), top + length - height)
        else:
            self._first = 0
        self._first = max(0, min(self._first, last))
        drawn = [((" " * _MARGIN, "text"), *line) if line else BLANK for line in lines]
        if self.has_focus:
            drawn[column.places[self.chosen][0]] = _chosen(drawn[column.places[self.chosen][0]], width)
        return drawn[self._first : self._first + height]

    def on_focus(self) -> None:
        """Show which one is chosen."""
        self.repaint()

    def on_blur(self) -> None:
        """None is chosen."""
        self.repaint()

    def on_key(self, event: events.Key) -> None:
        """Choosing, explaining, leaving."""
        if event.key in ("up", "k"):
            self.chosen = (self.chosen - 1) % len(GAUGES)
        elif event.key in ("down", "j"):
            self.chosen = (self.chosen + 1) % len(GAUGES)
        elif event.key == "home":
            self.chosen = 0
        elif event.key == "end":
            self.chosen = len(GAUGES) - 1
        elif event.key == "d" or (event.key == "enter" and GAUGES[self.chosen] is bound_by.GAUGE):
            self.post_message(self.Details())
        elif event.key == "c":
            self.post_message(self.Curve())
        elif event.key in ("question_mark", "enter"):
            self.post_message(self.Explain(GAUGES[self.chosen]))
        elif event.key in ("escape", "f3"):
            self.post_message(self.Left())
        else:
            return
        event.stop()
        event.prevent_default()
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked; a second click explains it."""
        row = event.y + self._first
        for index, (top, length) in enumerate(self._places):
            if top <= row < top + length:
                if event.chain > 1:
                    self.post_message(self.Explain(GAUGES[index]))
                self.chosen = index
        self.repaint()


def _chosen(title: Line, width: int) -> Line:
    """A gauge's title when it is the chosen one."""
    spans: list[Span] = [("▸", "accent")]
    spans += [(text, "strong accent" if role == "label" else role) for text, role in title[1:]]
    return fill(spans, width)


class FoldedGauges(Painted):
    """Three lines for a narrow terminal."""

    def __init__(self, readout: Readout) -> None:
        super().__init__(id="folded")
        self._readout = readout

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines, the most telling ones where there is room for less."""
        lines = draw_folded(self._readout, max(width - 2 * _MARGIN, 1))
        if height == 1:
            lines = lines[1:2]
        return [((" " * _MARGIN, "text"), *line) for line in lines]

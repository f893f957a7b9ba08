"""What a gauge is, where its numbers come from, how to read it, and what is true of it now."""

from __future__ import annotations

from textual.widget import Widget

from pagewise.app.gauges.gauge import Gauge
from pagewise.app.readout import Readout
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, wrap
from pagewise.app.widgets.page import Page


def draw_explanation(gauge: Gauge, readout: Readout, width: int) -> list[Line]:
    """The gauge's words, and its present state in sentences."""
    lines: list[Line] = []
    for name, text in (("What", gauge.what), ("Unit", gauge.unit), ("Source", gauge.source), ("Read it", gauge.how)):
        lines += wrap(((f"{name:<9}", "label"), (text, "text")), width, rest=9)
        lines.append(BLANK)
    for index, sentence in enumerate(gauge.state(readout)):
        lines += wrap(((f"{'Now' if index == 0 else '':<9}", "label"), (sentence, "text")), width, rest=9)
    return lines


class ExplainScreen(Sheet[None]):
    """One gauge explained."""

    CSS_PATH = ["sheet.tcss", "page.tcss"]
    KEYS = [("Esc", "back"), ("↑↓", "scroll")]
    BINDINGS = [("question_mark,enter,f3", "close", "Close")]

    def __init__(self, gauge: Gauge, readout: Readout) -> None:
        super().__init__(gauge.name)
        self.gauge = gauge
        self._readout = readout

    def body(self) -> list[Widget]:
        """The explanation."""
        return [Page(lambda width: draw_explanation(self.gauge, self._readout, width), id="page")]

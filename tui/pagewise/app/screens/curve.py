"""F3, then c: the decode rate of this model against the memory that its file can have."""

from __future__ import annotations

from typing import ClassVar

from textual.widget import Widget

from pagewise.app.profiler.curve import draw_curve
from pagewise.app.readout import Readout
from pagewise.app.screens.sheet import Sheet
from pagewise.app.widgets.keys import Key
from pagewise.app.widgets.page import Page


class CurveScreen(Sheet[None]):
    """One page; it goes on while replies come."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "page.tcss"]
    KEYS: ClassVar[list[Key]] = [("Esc", "back")]
    BINDINGS = [("c,enter,f3", "close", "Close")]

    def __init__(self, readout: Readout) -> None:
        super().__init__("Decode rate against memory")
        self._readout = readout

    def body(self) -> list[Widget]:
        """The page."""
        return [Page(lambda width: draw_curve(self._readout, width), id="page")]

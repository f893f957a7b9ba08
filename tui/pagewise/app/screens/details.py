"""Details of the last reply: the whole chain of reasoning behind the verdict, timing, and layers over tokens."""

from __future__ import annotations

from typing import ClassVar

from textual.widget import Widget

from pagewise.app.profiler.details import draw_details
from pagewise.app.readout import Readout
from pagewise.app.screens.sheet import Sheet
from pagewise.app.widgets.keys import Key
from pagewise.app.widgets.page import Page


class DetailsScreen(Sheet[None]):
    """One page that scrolls; it goes on while replies come."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "flame.tcss", "details.tcss"]
    KEYS: ClassVar[list[Key]] = [("↑↓", "scroll"), ("Esc", "back")]
    BINDINGS = [("d,enter,f3", "close", "Close")]

    def __init__(self, readout: Readout) -> None:
        super().__init__("Details of the last reply")
        self._readout = readout

    def body(self) -> list[Widget]:
        """The page."""
        return [Page(lambda width: draw_details(self._readout, width), id="page")]

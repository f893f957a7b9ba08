"""F3 on a narrow terminal: the gauge column over the chat."""

from __future__ import annotations

from textual import on
from textual.widget import Widget

from pagewise.app.readout import Readout
from pagewise.app.screens.curve import CurveScreen
from pagewise.app.screens.details import DetailsScreen
from pagewise.app.screens.explain import ExplainScreen
from pagewise.app.screens.sheet import Sheet
from pagewise.app.widgets.gauges import GaugeColumn


class GaugesScreen(Sheet[None]):
    """All gauges, one of them chosen."""

    CSS_PATH = ["sheet.tcss", "gauges.tcss"]
    KEYS = [("↑↓", "choose"), ("?", "explain"), ("d", "details"), ("c", "memory curve"), ("Esc", "back")]

    def __init__(self, readout: Readout) -> None:
        super().__init__("Gauges")
        self._readout = readout

    def body(self) -> list[Widget]:
        """The column."""
        return [GaugeColumn(self._readout)]

    @on(GaugeColumn.Explain)
    def _explain(self, event: GaugeColumn.Explain) -> None:
        self.app.push_screen(ExplainScreen(event.gauge, self._readout))

    @on(GaugeColumn.Details)
    def _details(self) -> None:
        self.app.push_screen(DetailsScreen(self._readout))

    @on(GaugeColumn.Curve)
    def _curve(self) -> None:
        self.app.push_screen(CurveScreen(self._readout))

    @on(GaugeColumn.Left)
    def _left(self) -> None:
        self.dismiss(None)

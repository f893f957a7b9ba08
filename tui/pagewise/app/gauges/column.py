"""The gauge column: all gauges one below the other, fitted to the height there is."""

from __future__ import annotations

from typing import NamedTuple

from pagewise.app.gauges import bound_by, context, layers, memory, model_file, page_in, timing, vram
from pagewise.app.gauges.gauge import Gauge
from pagewise.app.readout import Readout
from pagewise.app.spans import BLANK, Line

GAUGES: tuple[Gauge, ...] = (
    vram.GAUGE,
    model_file.GAUGE,
    page_in.GAUGE,
    layers.GAUGE,
    timing.GAUGE,
    context.GAUGE,
    memory.GAUGE,
    bound_by.GAUGE,
)

_GAP = (-1, 0)
_RICHER_FIRST = (
    *((7, 1), (7, 2), (3, 1), (0, 1), (4, 1), (2, 1), (1, 1), (6, 1)),
    _GAP,
    *((7, 3), (7, 4), (0, 2), (0, 3), (2, 2), (3, 2), (5, 2), (0, 4)),
)
"""What spare lines are used for, as (gauge, level): first the verdict and layers; then blanks between all gauges."""


class Column(NamedTuple):
    """The drawn column: its lines, and for each gauge the first line and how many it has."""

    lines: list[Line]
    places: tuple[tuple[int, int], ...]


def draw_column(readout: Readout, width: int, height: int) -> Column:
    """As rich as the height allows; what is too long even at its poorest scrolls."""
    drawn = [gauge.draw(readout, width, 0) for gauge in GAUGES]
    spare = height - sum(len(lines) for lines in drawn)
    gap = 0
    for step in _RICHER_FIRST:
        if step == _GAP:
            gap = int(spare >= len(GAUGES) - 1)
            spare -= gap * (len(GAUGES) - 1)
            continue
        index, level = step
        richer = GAUGES[index].draw(readout, width, level)
        more = len(richer) - len(drawn[index])
        if 0 <= more <= spare:
            drawn[index] = richer
            spare -= more
    lines: list[Line] = []
    places: list[tuple[int, int]] = []
    for gauge_lines in drawn:
        if lines and gap:
            lines.append(BLANK)
        places.append((len(lines), len(gauge_lines)))
        lines += gauge_lines
    return Column(lines, tuple(places))

"""Plots as inline SVG: lines over time, histograms, heat maps. Colours are classes that the page's style sheet sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 900
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 12, 10, 26
MOST_POINTS = 600
MOST_COLUMNS = 240
HEAT_STEPS = 8
Label = Callable[[float], str]
Value = float | None


class Curve(NamedTuple):
    """One line of a plot: a name, the number of its colour (1 to 4), and its values at the plot's times."""

    name: str
    colour: int
    values: Sequence[Value]


def clock(seconds: float) -> str:
    """A place in a record, such as ``1:04``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def ticks(top: float, most: int = 6) -> list[float]:
    """Round values from 0 up to at most ``top``, about ``most`` of them."""
    if not 1e-300 < top < math.inf:
        return [0.0]
    rough = top / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999)
    return [index * step for index in range(int(top / step * 1.0001) + 1)]


def binary_ticks(top: float, most: int = 6) -> list[float]:
    """The same for bytes: round in the unit that they are shown in."""
    unit = 1024.0 ** max(0, math.floor(math.log(top, 1024))) if top >= 1 else 1.0
    return [value * unit for value in ticks(top / unit, most)]


def line_plot(
    times: Sequence[float],
    curves: Sequence[Curve],
    label: Label,
    title: str,
    height: int = 190,
    scale: Callable[[float], list[float]] = ticks,
) -> str:
    """Curves over time, from 0. Where a value is not known the line has a gap; of many points the highest is drawn."""
    curves = [curve._replace(values=[_finite(value) for value in curve.values]) for curve in curves]
    start, end = (times[0], times[-1]) if times else (0.0, 0.0)
    span = max(end - start, 1e-9)
    top = max((value for curve in curves for value in curve.values if value is not None), default=0.0) or 1.0
    wide, high = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    parts = [_grid(scale(top), top, label, high), _time_axis(start, span, wide, height)]
    for curve in curves:
        path: list[str] = []
        pen = "M"
        for at, value in _peaks(times, curve.values):
            if value is None:
                pen = "M"
                continue
            x = _LEFT + wide * (at - start) / span
            y = _TOP + high * (1 - value / top)
            path.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        if path:
            # A point alone would not be seen: a line of no length with round ends is.
            path.append("h0")
            parts.append(f'<path class="line c{curve.colour}" d="{"".join(path)}"/>')
    return _svg(height, title, parts) + _legend(curves)


def histogram(values: Sequence[float], label: Label, title: str, marks: Sequence[tuple[str, float]] = ()) -> str:
    """How often which of some finite values; bins are of equal ratio where these span more than a factor of 20.

    ``marks`` are drawn as named lines.
    """
    above = _TOP + 14 * len(marks)
    height = 180 + above
    wide, high = WIDTH - _LEFT - _RIGHT, height - above - _BOTTOM
    low, top = min(values), max(values)
    ratio = low > 0 and top / low > 20
    forth: Callable[[float], float] = math.log if ratio else float
    back: Callable[[float], float] = math.exp if ratio else float
    first, last = forth(low), forth(top)
    if last - first < 1e-9:
        first, last = first - 0.5, last + 0.5
    bins = max(8, min(60, round(math.sqrt(len(values)) * 2)))
    counts = [0] * bins
    for value in values:
        counts[min(int((forth(value) - first) / (last - first) * bins), bins - 1)] += 1
    most = max(counts)
    parts = [
        _grid([tick for tick in ticks(most) if tick == int(tick)], most, lambda value: f"{value:.0f}", high, above)
    ]
    for index, count in enumerate(counts):
        if count:
            tall = high * count / most
            x = _LEFT + wide * index / bins
            parts.append(
                f'<rect class="bar" x="{x:.1f}" y="{above + high - tall:.1f}" width="{wide / bins - 1:.1f}" '
                f'height="{tall:.1f}"><title>{escape(label(back(first + (last - first) * index / bins)))}: {count}'
                "</title></rect>"
            )
    for index in range(6):
        x = _LEFT + wide * index / 5
        text = escape(label(back(first + (last - first) * index / 5)))
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="{_anchor(index, 5)}">{text}</text>')
    for row, (name, value) in enumerate(marks):
        x = _LEFT + wide * (forth(value) - first) / (last - first) if value > 0 or not ratio else _LEFT
        side = ("start", 4) if x < WIDTH - 190 else ("end", -4)
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP + 14 * row}" y2="{above + high}"/>'
            f'<text class="marked" x="{x + side[1]:.1f}" y="{_TOP + 10 + 14 * row}" text-anchor="{side[0]}">'
            f"{escape(name)} {escape(label(value))}</text>"
        )
    return _svg(height, title, parts)


def heat_map(
    columns: Sequence[Sequence[Value]],
    names: Sequence[str],
    label: Label,
    title: str,
    axis: tuple[str, str],
    top: float | None = None,
) -> str:
    """One row for each of ``names`` (the first at the bottom), one column a sample; neighbours share a column if many.

    The scale runs from 0 to ``top``, or to the 95th percentile of what is shown: a few cells in which something else
    held the machine up would otherwise leave the rest blank. Hatched: not known.
    """
    columns = _narrowed([[_finite(value) for value in column] for column in columns])
    whole = top is not None
    if top is None:
        known = sorted(value for column in columns for value in column if value is not None)
        top = known[int((len(known) - 1) * 0.95)] if known else 0.0
        top = top or (known[-1] if known else 0.0) or 1.0
    row_high = max(5, min(14, 360 // max(len(names), 1)))
    high = row_high * len(names)
    height = high + _TOP + _BOTTOM
    wide = WIDTH - _LEFT - _RIGHT
    paths: dict[str, list[str]] = {}
    for y in range(len(names)):
        x = 0
        row = [_step(column[y], top) for column in columns]
        while x < len(row):
            run = x
            while run < len(row) and row[run] == row[x]:
                run += 1
            paths.setdefault(row[x], []).append(f"M{x} {len(names) - 1 - y}h{run - x}v1h{x - run}z")
            x = run
    cells = "".join(f'<path class="{name}" d="{"".join(path)}"/>' for name, path in sorted(paths.items()))
    every = max(1, math.ceil(len(names) * 12 / max(high, 1)))
    parts = [
        f'<svg x="{_LEFT}" y="{_TOP}" width="{wide}" height="{high}" viewBox="0 0 {max(len(columns), 1)} {len(names)}" '
        f'preserveAspectRatio="none" shape-rendering="crispEdges">{cells}</svg>'
    ]
    for y, name in enumerate(names):
        if y % every == 0 or y == len(names) - 1:
            at = _TOP + row_high * (len(names) - 1 - y) + row_high / 2 + 3.5
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at:.1f}" text-anchor="end">{escape(name)}</text>')
    parts += [
        f'<text class="tick" x="{_LEFT}" y="{height - 8}">{escape(axis[0])}</text>',
        f'<text class="tick" x="{WIDTH - _RIGHT}" y="{height - 8}" text-anchor="end">{escape(axis[1])}</text>',
    ]
    return _svg(height, title, parts) + _heat_legend(label, top, whole)


def _finite(value: Value) -> Value:
    """A record may hold what no reading is: infinite, or no number."""
    return value if value is not None and math.isfinite(value) else None


def _step(value: Value, top: float) -> str:
    if value is None:
        return "unknown"
    return f"h{max(0, min(int(min(value / top, 1.0) * HEAT_STEPS), HEAT_STEPS - 1))}"


def _narrowed(columns: Sequence[Sequence[Value]]) -> Sequence[Sequence[Value]]:
    """At most MOST_COLUMNS columns: each the mean of its neighbours."""
    if len(columns) <= MOST_COLUMNS:
        return columns
    narrowed: list[list[Value]] = []
    for index in range(MOST_COLUMNS):
        group = columns[index * len(columns) // MOST_COLUMNS : (index + 1) * len(columns) // MOST_COLUMNS]
        row: list[Value] = []
        for cells in zip(*group, strict=True):
            known = [cell for cell in cells if cell is not None]
            row.append(sum(known) / len(known) if known else None)
        narrowed.append(row)
    return narrowed


def _peaks(times: Sequence[float], values: Sequence[Value]) -> list[tuple[float, Value]]:
    """At most MOST_POINTS points: of neighbours the highest."""
    if len(times) <= MOST_POINTS:
        return list(zip(times, values, strict=True))
    points: list[tuple[float, Value]] = []
    for index in range(MOST_POINTS):
        start, end = index * len(times) // MOST_POINTS, (index + 1) * len(times) // MOST_POINTS
        known = [value for value in values[start:end] if value is not None]
        points.append((times[start], max(known) if known else None))
    return points


def _grid(values: Sequence[float], top: float, label: Label, high: int, above: int = _TOP) -> str:
    parts = []
    for value in values:
        y = above + high * (1 - value / top)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escape(label(value))}</text>'
        )
    return "".join(parts)


def _time_axis(start: float, span: float, wide: int, height: int) -> str:
    return "".join(
        f'<text class="tick" x="{_LEFT + wide * index / 5:.1f}" y="{height - 8}" text-anchor="{_anchor(index, 5)}">'
        f"{clock(start + span * index / 5)}</text>"
        for index in range(6)
    )


def _anchor(index: int, last: int) -> str:
    return "start" if index == 0 else "end" if index == last else "middle"


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    return f"{head}{''.join(parts)}</svg>"


def _legend(curves: Sequence[Curve]) -> str:
    if len(curves) < 2:
        return ""
    entries = "".join(f'<span><i class="k{curve.colour}"></i>{escape(curve.name)}</span>' for curve in curves)
    return f'<p class="legend">{entries}</p>'


def _heat_legend(label: Label, top: float, whole: bool) -> str:
    more = "" if whole else " and more"
    steps = "".join(f'<i class="k h{step}b"></i>' for step in range(HEAT_STEPS))
    return f'<p class="legend"><span>{escape(label(0.0))} {steps} {escape(label(top))}{more}</span></p>'

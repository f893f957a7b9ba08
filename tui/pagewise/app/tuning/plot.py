"""The trials as a plot: decode rate against memory, and the front of the best."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pagewise.app.figures import size
from pagewise.app.spans import Line, Span, clip, ends, line
from pagewise.jobs.tune import Trial

_LEAST_SPREAD = 0.01
NOTHING = "All trials so far take the same memory: there is nothing to plot."
Point = tuple[int, float, Trial]
"""Bytes, tokens a second."""


def draw_plot(trials: Sequence[Trial], best: int, width: int, height: int) -> list[Line]:
    """Tokens a second upwards, memory to the right; the front is drawn through those that nothing of as little memory
    beats. Nothing where it would say nothing: fewer than two trials, or all of them take the same memory.
    """
    points: list[Point] = [
        (trial.memory_bytes, 1000 / trial.tpot_ms, trial)
        for trial in trials
        if trial.memory_bytes is not None and trial.tpot_ms
    ]
    if len(points) < 2 or height < 4 or width < 30:
        return []
    axis = max(len(f"{rate:.0f}") for _, rate, _ in points) + 1
    columns, rows = width - axis - 1, height - 2
    low, high = min(memory for memory, _, _ in points), max(memory for memory, _, _ in points)
    if high - low < _LEAST_SPREAD * high:
        return []
    top, bottom = max(rate for _, rate, _ in points), min(rate for _, rate, _ in points)
    bottom = max(0.0, bottom - 0.1 * (top - bottom))

    def place(point: Point) -> tuple[int, int]:
        memory, rate, _ = point
        up = (rate - bottom) / (top - bottom) if top > bottom else 0.5
        return round((memory - low) / (high - low) * (columns - 1)), rows - 1 - round(up * (rows - 1))

    grid: list[list[Span]] = [[(" ", "text")] * columns for _ in range(rows)]
    front = _front(points)
    _draw_front(grid, [place(point) for point in front])
    for point in sorted(points, key=lambda each: _weight(each, front, best)):
        column, row = place(point)
        grid[row][column] = _MARKS[_weight(point, front, best)]
    legend = "tok/s against memory   ○ start   ● best   • fastest for its memory"
    lines: list[Line] = [clip(((legend, "muted"),), width)]
    for index, cells in enumerate(grid):
        label = f"{top:.0f}" if index == 0 else f"{bottom:.0f}" if index == rows - 1 else ""
        lines.append((*line((label.rjust(axis - 1) + " ", "muted"), ("│", "faint")), *cells))
    lines.append(ends(line((" " * axis + "└ ", "faint"), (size(low), "muted")), line((size(high), "muted")), width))
    return lines


_MARKS: list[Span] = [("·", "muted"), ("•", "accent"), ("○", "text"), ("●", "strong accent")]


def _weight(point: Point, front: Sequence[Point], best: int) -> int:
    """The mark of a point; where two are in one cell, the higher one is seen."""
    trial = point[2]
    if trial.number == best:
        return 3
    return 2 if trial.outcome == "start" else 1 if point in front else 0


def _front(points: Sequence[Point]) -> list[Point]:
    """From little memory to much, each faster than all before it."""
    front: list[Point] = []
    for point in sorted(points, key=lambda each: (each[0], -each[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _draw_front(grid: list[list[Span]], places: Sequence[tuple[int, int]]) -> None:
    """Steps: a rate holds until so much memory that a higher one can be had."""
    for (column, row), (next_column, next_row) in pairwise(places):
        for across in range(column + 1, next_column):
            grid[row][across] = ("╌", "faint")
        for down in range(next_row + 1, row):
            grid[down][next_column] = ("╎", "faint")
        if next_column > column and next_row < row:
            grid[row][next_column] = ("┘", "faint")

"""What a gauge is: a pure drawing of the readout, and words that explain it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, clip, ends, line
from pagewise.app.visible import visible


class Gauge(NamedTuple):
    """One gauge. ``draw(readout, width, rows)`` gives its lines; ``rows`` is how much height there is to spare."""

    name: str
    draw: Callable[[Readout, int, int], list[Line]]
    what: str
    unit: str
    source: str
    how: str
    state: Callable[[Readout], list[str]]
    """What is true of it now, in sentences; why a value is missing, among them."""


def title(name: str, detail: str, right: tuple[Span, ...], width: int) -> Line:
    """First line of a gauge: its name, a quiet detail, and the figure that matters at the right edge."""
    left = line((name, "label"), (f"  {detail}", "muted") if detail else "")
    return ends(left, right, width)


def figure(text: str, role: str = "value") -> tuple[Span, ...]:
    """A figure with its unit: the number bright, the unit plain; ``n/a`` stays quiet."""
    if text == "n/a":
        return ((text, "muted"),)
    number, _, unit = text.rpartition(" ")
    return ((number, role), (f" {unit}", "muted")) if number else ((text, role),)


def quiet(text: str, width: int) -> Line:
    """A remark in place of a value."""
    return clip(((visible(text).replace("\n", " "), "muted"),), width)

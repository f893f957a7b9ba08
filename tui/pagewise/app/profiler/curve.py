"""The decode rate against the memory that the model file can have, predicted, with what was measured marked in it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pagewise.app.figures import duration, gib, per_second, rate, significant, size
from pagewise.app.gauges.strip import LEVELS
from pagewise.app.readout import Readout
from pagewise.app.spans import BLANK, Line, Span, clip, wrap
from pagewise.readings import CurvePoint, Streaming

_ROWS = 9
_SCALE = 8
_MOST = 64
_NONE = "The curve is drawn once a reply of some tokens has been written and the disk was read from."
_FITS = (
    "All of the file fits, and all of it was in memory before it was loaded: how fast the disk is was not seen, and "
    "there is no curve."
)


def draw_curve(readout: Readout, width: int) -> list[Line]:
    """The page."""
    streaming = readout.streaming
    if streaming is None or not streaming.curve:
        fits = streaming is not None and not streaming.streamed_bytes and streaming.token_ms is not None
        return wrap(((_FITS if fits else _NONE, "muted"),), width)
    lines = [*_graph(streaming, width), BLANK, *_words(streaming, width)]
    return [clip(one, width) for one in lines]


def _graph(streaming: Streaming, width: int) -> list[Line]:
    columns = max(8, min(_MOST, width - _SCALE - 2))
    points = streaming.curve
    low, high = points[0].memory_bytes, points[-1].memory_bytes
    rates = [1000.0 / _ms_at(points, low + (high - low) * column / (columns - 1)) for column in range(columns)]
    measured = 1000.0 / streaming.token_ms if streaming.token_ms else None
    top = max([*rates, measured or 0.0])
    here = round((columns - 1) * (min(max(streaming.room_bytes, low), high) - low) / max(1, high - low))
    mark = None if measured is None else min(_ROWS - 1, int(measured / top * _ROWS))
    lines: list[Line] = []
    for row in reversed(range(_ROWS)):
        name = significant(top * (row + 1) / _ROWS) if row in (_ROWS - 1, _ROWS // 2, 0) else ""
        spans: list[Span] = [(f"{name:>{_SCALE}} ", "muted")]
        for column, value in enumerate(rates):
            if column == here and row == mark:
                spans.append(("◆", "warn"))
                continue
            spans.append(_cell(value / top * _ROWS - row, column == here))
        lines.append(tuple(spans))
    ends = f"{gib(low)}", f"{gib(high)} GiB"
    between = "─" * max(0, columns - len(ends[0]) - len(ends[1]) - 2)
    lines.append(((f"{'tok/s':>{_SCALE}} ", "muted"), (f"{ends[0]} {between} {ends[1]}", "muted")))
    return lines


def _cell(height: float, here: bool) -> Span:
    if height >= 1:
        return "█", "accent"
    if height <= 0:
        return ("│", "faint") if here else (" ", "text")
    return LEVELS[max(0, min(7, int(height * 8)))], "accent"


def _words(streaming: Streaming, width: int) -> list[Line]:
    lines: list[Line] = []
    fits = streaming.room_bytes >= streaming.needed_bytes
    at_room = per_second(1000.0 / _ms_at(streaming.curve, streaming.room_bytes))
    whole = per_second(1000.0 / streaming.curve[-1].token_ms)
    measured = per_second(1000.0 / streaming.token_ms if streaming.token_ms else None)
    lines += wrap(
        (
            ("◆ ", "warn"),
            (
                f"{measured} were measured with {size(streaming.room_bytes)} for the file; {at_room} are predicted.",
                "text",
            ),
        ),
        width,
        rest=2,
    )
    if not fits:
        more = streaming.needed_bytes - streaming.room_bytes
        sentence = f"With {size(more)} more all of it would stay in memory: {whole}."
        lines += wrap((("→ ", "accent"), (sentence, "text")), width, rest=2)
    compute = None
    if streaming.token_ms is not None and streaming.waited_ms is not None:
        compute = duration(max(0.0, streaming.token_ms - streaming.waited_ms))
    disk = rate(streaming.bandwidth_bytes_s)
    basis = f"Predicted from {compute or 'n/a'} that a token takes without waiting, and {disk} that the disk gave."
    if streaming.missed_pct is not None:
        basis += " Experts are taken to be chosen as often as they were so far."
    return lines + wrap(((basis, "muted"),), width)


def _ms_at(points: Sequence[CurvePoint], memory: float) -> float:
    """Between two points on the straight line; beyond the last one as there."""
    for left, right in pairwise(points):
        if memory <= right.memory_bytes:
            share = (memory - left.memory_bytes) / max(1, right.memory_bytes - left.memory_bytes)
            return left.token_ms + (right.token_ms - left.token_ms) * max(0.0, share)
    return points[-1].token_ms

"""BOUND BY: the verdict on the last reply."""

from __future__ import annotations

from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, clip, wrap
from pagewise.app.visible import visible_line


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    verdict = readout.verdict
    if verdict is None:
        return [title("BOUND BY", "", figure("n/a"), width), quiet("judged after the next reply", width)]
    lines: list[Line] = [
        (("BOUND BY  ", "label"), *clip(((visible_line(verdict.bound_by), "strong accent"),), width - 10))
    ]
    why = wrap(((visible_line(verdict.why), "muted"),), width) if verdict.why else []
    advice = wrap((("→ ", "accent"), (visible_line(verdict.advice), "text")), width, rest=2) if verdict.advice else []
    room = 2 + rows
    for_advice = min(len(advice), max(room - 1, 1))
    return lines + _cut(why, room - for_advice, width) + _cut(advice, for_advice, width)


def _cut(lines: list[Line], rows: int, width: int) -> list[Line]:
    """At most so many lines; the last one tells that there was more."""
    if len(lines) <= rows:
        return lines
    kept = lines[:rows]
    if kept:
        kept[-1] = (*clip(kept[-1], width - 2, ""), (" …", "muted"))
    return kept


def _state(readout: Readout) -> list[str]:
    verdict = readout.verdict
    if verdict is None:
        return ["No reply has been judged since this model was loaded."]
    return [
        f"Bound by {visible_line(verdict.bound_by)}: {visible_line(verdict.why)}",
        *(visible_line(step) for step in verdict.reasoning),
        f"What would help most: {visible_line(verdict.advice)}",
    ]


GAUGE = Gauge(
    name="BOUND BY",
    draw=_draw,
    what="The verdict: what limited the tokens of the last reply, the figures that say so, and the one change that "
    "would help most.",
    unit="words, with the figures behind them",
    source="Rules over the other gauges' readings: layer times, bytes read for a token, page-ins, measured bandwidths.",
    how="A bandwidth is named only when at least 60 % of its measured peak is in use. Unclear is an honest answer.",
    state=_state,
)

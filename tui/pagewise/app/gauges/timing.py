"""TIMING: how long the first token took, how long each next one takes, and how steady that is."""

from __future__ import annotations

from pagewise.app.figures import count, duration, per_second
from pagewise.app.gauges.gauge import Gauge
from pagewise.app.gauges.strip import braille, coloured
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, ends

_COLUMN = 11


def _cell(text: str, role: str) -> list[Span]:
    role = "muted" if text == "n/a" else role
    return [(f"{text:>{_COLUMN}}", role)]


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    head = ends((("TIMING", "label"),), [(f"{name:>{_COLUMN}}", "muted") for name in ("now", "p50", "p95")], width)
    timing = readout.timing
    lines = [head]
    for name, now, p50, p95 in (
        ("TTFT", readout.ttft_ms, readout.ttft_percentile(50), readout.ttft_percentile(95)),
        ("TPOT", readout.tpot_ms, readout.tpot_percentile(50), readout.tpot_percentile(95)),
        ("ITL", readout.gaps[-1] if readout.gaps else None, readout.gap_percentile(50), readout.gap_percentile(95)),
    ):
        figures = [
            *_cell(duration(now), "value"),
            *_cell(duration(p50) if p50 is not None else "–", "text" if p50 is not None else "muted"),
            *_cell(duration(p95) if p95 is not None else "–", "text" if p95 is not None else "muted"),
        ]
        lines.append(ends(((name, "muted"),), figures, width))
    prefill = timing.prefill_rate if timing else None
    lines.append(
        ends(
            (("decode ", "muted"), (per_second(readout.decode_rate), "value")),
            (("prefill ", "muted"), (per_second(prefill), "text" if prefill else "muted")),
            width,
        )
    )
    if rows > 0:
        top = 2 * (readout.gap_percentile(50) or 0.0)
        depth = f"  depth {count(timing.depth)}" if timing and timing.depth is not None else ""
        room = max(width - len(depth), 8)
        lines.append((*coloured(braille(list(readout.gaps), room, 1, top)[0], "accent"), (depth, "muted")))
    return lines


def _state(readout: Readout) -> list[str]:
    timing = readout.timing
    if timing is None:
        return ["No reply has ended since this model was loaded."]
    lines = [
        f"Last reply: TTFT {duration(timing.ttft_ms)} = queue {duration(timing.queue_ms)} + template and tokenizer "
        f"{duration(timing.template_ms)} + prefill {duration(timing.prefill_ms)} + first sample "
        f"{duration(timing.first_sample_ms)}.",
        f"{count(timing.n_prompt)} prompt tokens, {count(timing.n_reused)} of them found in the KV cache; "
        f"{count(timing.n_output)} output tokens, TPOT {duration(timing.tpot_ms)} at depth {count(timing.depth)}.",
        f"p50 and p95 are over {readout.warm_turns} warm replies since the load"
        + (" (the first reply after a load is left out)." if timing.cold else "."),
    ]
    if timing.profiled:
        n = "1 token was" if len(timing.profiled) == 1 else f"{len(timing.profiled)} tokens were"
        lines.append(f"{n} computed node by node for an operator profile, and left out of TPOT and ITL.")
    if timing.tpot_ms is None:
        lines.append("TPOT is n/a: it needs two output tokens.")
    if timing.prefill_rate is None:
        lines.append("The prefill rate is n/a: no prompt token had to be evaluated.")
    if timing.reuse_note:
        lines.append(timing.reuse_note)
    if timing.loop_cost_ms is not None:
        lines.append(f"Our own loop costs {duration(timing.loop_cost_ms)} a token.")
    return lines


GAUGE = Gauge(
    name="TIMING",
    draw=_draw,
    what="TTFT: time to the first token. TPOT: mean time of each further token. ITL: the gap between two tokens, with "
    "its history (newest at the right, twice the median fills the height). Decode and prefill: tokens a second.",
    unit="ms; tok/s. n/a where a reply had too few tokens",
    source="The engine's own clock. TTFT and TPOT: p50 and p95 over the warm replies since the load; ITL: over the "
    "gaps of this reply.",
    how="Decode is 1000 / TPOT. A p95 of ITL far above its p50 means hiccups: look at PAGE-IN. Compare runs only at a "
    "similar depth (tokens already in the context).",
    state=_state,
)

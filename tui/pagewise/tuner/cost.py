"""What an aim makes of a measurement: one number, smaller is better."""

from __future__ import annotations

from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim

_WITHIN = 1.1
"""Without a bound of the person's own, the first token may come this much later than at the start."""


def cost_ms(aim: Aim, measured: Measured, ttft_bound_ms: float | None) -> float:
    """In ms. ``chat``: time of one more token, more if the first one is late. ``long-prompts``: time to the first
    token. ``batch``: time of a whole answer.
    """
    ttft, tpot = measured.ttft_ms or 0.0, measured.tpot_ms or 0.0
    if aim.goal == "long-prompts":
        return ttft
    if aim.goal == "batch":
        # Of the whole answer, also where only a part of it was measured.
        return ttft + tpot * max(0, aim.n_output - 1)
    late = ttft / ttft_bound_ms if ttft_bound_ms else 1.0
    return tpot * max(1.0, late)


def bound_for(aim: Aim, start: Measured) -> float | None:
    """The bound of a chat's time to the first token: the person's, or one that the start just keeps."""
    if aim.goal != "chat":
        return None
    if aim.ttft_bound_ms is not None:
        return aim.ttft_bound_ms
    return _WITHIN * start.ttft_ms if start.ttft_ms else None

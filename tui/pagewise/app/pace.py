"""How often what streams is drawn: as often as is of use, and as seldom as costs the reply nothing that one feels."""

from __future__ import annotations

DRAWS_PER_SECOND = 8
"""At most, and where a core is free for it."""
_DRAWS_WHERE_BUSY = 4
"""Where all cores compute, a draw takes one from threads that wait for each other: the whole reply stands still."""
_BUSY_PCT = 90.0
_SLOWDOWN = 6
"""Where drawing takes long, there is at least so much time between two draws as a multiple of it, up to a limit."""
_SLOWEST_S = 0.5


def seconds_apart(draw_cost_s: float, cpu_pct: float | None) -> float:
    """Seconds between two draws, of which the last took ``draw_cost_s``; ``cpu_pct`` of all cores are busy."""
    is_busy = cpu_pct is not None and cpu_pct >= _BUSY_PCT
    return max(1 / (_DRAWS_WHERE_BUSY if is_busy else DRAWS_PER_SECOND), min(_SLOWDOWN * draw_cost_s, _SLOWEST_S))

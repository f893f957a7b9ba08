"""Two sides measured in turns on a short time scale, and what can be said of their ratio on a machine that drifts."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence

_DRAWS = 4000
_SHARE = 0.95
_SEED = 20_240


def two_at_a_time(pairs: int) -> list[int]:
    """So many pairs in rounds of two, since ``in_turns`` changes who is first from pair to pair; an odd one alone."""
    return [2] * (pairs // 2) + [1] * (pairs % 2)


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> list[float]:
    """The ratio ours / theirs of each pair. Who is first changes from pair to pair."""
    ratios = []
    for number in range(pairs):
        if number % 2:
            below = theirs()
            ratios.append(ours() / below)
        else:
            above = ours()
            ratios.append(above / theirs())
    return ratios


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by the bootstrap: the same for the same samples. Raises ValueError on none."""
    if not samples:
        raise ValueError("an interval needs samples")
    source = random.Random(_SEED)
    medians = sorted(statistics.median(source.choices(samples, k=len(samples))) for _ in range(_DRAWS))
    cut = round((1 - _SHARE) / 2 * _DRAWS)
    return medians[cut], medians[-1 - cut]

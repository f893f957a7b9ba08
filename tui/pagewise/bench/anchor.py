"""A short measurement that is taken again and again: where it changes, the machine has changed, and not the model."""

from __future__ import annotations

import statistics

MOST_DRIFT = 0.10
"""A machine that is slower or faster by more than this share is not the one that was measured before."""


class Anchor:
    """Times of one short test. The first ones say what is normal."""

    def __init__(self, first: list[float]) -> None:
        """``first``: times of the test at the begin, in any unit. Raises ValueError where there are none."""
        if not first:
            raise ValueError("an anchor needs a first measurement")
        self.normal = statistics.median(first)

    def drift(self, again: list[float]) -> float:
        """How much longer the test takes now: 0.05 is 5 % slower, -0.05 5 % faster."""
        return statistics.median(again) / self.normal - 1.0

    def holds(self, drift: float) -> bool:
        """Whether a measurement that was taken at this drift may be kept."""
        return abs(drift) <= MOST_DRIFT

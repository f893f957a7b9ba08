"""How sure a comparison is, from what pairs of measurements have scattered by so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pagewise.bench.spread import Ratio

_FIRST_GUESS = 0.03
_GUESS_WEIGHT = 2
_Z95 = 1.96


class Noise:
    """The scatter of a log ratio of two measurements, pooled over all comparisons: one alone has too few of them."""

    def __init__(self) -> None:
        self._squares = _GUESS_WEIGHT * _FIRST_GUESS**2
        self._freedom = float(_GUESS_WEIGHT)

    def learn(self, logs: Sequence[float]) -> None:
        """Take in the log ratios of one comparison; one alone says nothing."""
        if len(logs) > 1:
            mean = statistics.fmean(logs)
            self._squares += sum((value - mean) ** 2 for value in logs)
            self._freedom += len(logs) - 1

    @property
    def sigma(self) -> float:
        """Standard deviation of a pair's log ratio: 0.02 is two measurements that differ by 2 % without a reason."""
        return math.sqrt(self._squares / self._freedom)

    def interval(self, logs: Sequence[float]) -> Ratio:
        """The mean ratio with its 95 % interval."""
        mean = statistics.fmean(logs)
        half = _Z95 * self.sigma / math.sqrt(len(logs))
        return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))

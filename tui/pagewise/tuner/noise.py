"""How sure a comparison is, from what pairs of measurements have scattered by so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pagewise.bench.spread import Ratio

_FIRST_GUESS = 0.03
_GUESS_WEIGHT = 2
_Z95 = 1.96
_CERTAIN = 12
_OF_MEDIAN = 1.4826
"""Standard deviation ÷ median distance from the middle, of a normal distribution."""


class Noise:
    """The scatter of a log ratio of two measurements, pooled over all comparisons: one alone has too few of them."""

    def __init__(self) -> None:
        self._squares = _GUESS_WEIGHT * _FIRST_GUESS**2
        self._freedom = float(_GUESS_WEIGHT)
        self._distances: list[float] = []

    def learn(self, logs: Sequence[float]) -> None:
        """Take in the log ratios of one comparison; one alone says nothing."""
        if len(logs) > 1:
            mean = statistics.fmean(logs)
            self._squares += sum((value - mean) ** 2 for value in logs)
            self._freedom += len(logs) - 1
            # From their own mean they are less far than from the true one.
            widened = math.sqrt(len(logs) / (len(logs) - 1))
            self._distances += [widened * (value - mean) for value in logs]

    @property
    def usual(self) -> float | None:
        """The same as ``sigma`` without what hiccups make of it; None as long as it would rest on few measurements."""
        return robust(self._distances) if len(self._distances) >= _CERTAIN else None

    @property
    def sigma(self) -> float:
        """Standard deviation of a pair's log ratio: 0.02 is two measurements that differ by 2 % without a reason."""
        return math.sqrt(self._squares / self._freedom)

    def interval(self, logs: Sequence[float]) -> Ratio:
        """The mean ratio with its 95 % interval; how these themselves scatter counts too."""
        mean = statistics.fmean(logs)
        squares = self._squares + sum((value - mean) ** 2 for value in logs)
        sigma = math.sqrt(squares / (self._freedom + len(logs) - 1))
        half = _Z95 * sigma / math.sqrt(len(logs))
        return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def robust(distances: Sequence[float]) -> float:
    """The standard deviation that distances from a middle have but for a few that are far off."""
    return _OF_MEDIAN * statistics.median(map(abs, distances))

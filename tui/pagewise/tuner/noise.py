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
_MANY = 6
_LEARNED = 3
"""Degrees of freedom from which on the scatter has been seen and is not a guess."""
_OF_MEDIAN = 1.4826
"""Standard deviation ÷ median distance from the middle, of a normal distribution."""


class Noise:
    """The scatter of a log ratio of two measurements, pooled over all comparisons: one alone has too few of them."""

    def __init__(self) -> None:
        self._squares = _GUESS_WEIGHT * _FIRST_GUESS**2
        self._freedom = float(_GUESS_WEIGHT)
        self._distances: list[float] = []

    def begin(self, costs: Sequence[float]) -> None:
        """Take in repeated measurements of the start. Of many of them a few may be hiccups, which count as far as the
        others reach; of few nobody can tell.
        """
        if len(costs) > 1 and min(costs) > 0:
            logs = [math.log(cost) for cost in costs]
            many = len(logs) >= _MANY
            middle = statistics.median(logs) if many else statistics.fmean(logs)
            # A pair's log ratio differs by √2 as much as one measurement.
            distances = [math.sqrt(2) * (value - middle) for value in logs]
            freedom = len(logs) - 1
            self._squares += freedom * robust(distances) ** 2 if many else sum(each**2 for each in distances)
            self._freedom += freedom
            self._distances += [math.sqrt(len(logs) / freedom) * distance for distance in distances]

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
    def learned(self) -> float | None:
        """The same as ``sigma`` by what was measured alone, without the first guess; None as long as that is little."""
        freedom = self._freedom - _GUESS_WEIGHT
        if freedom < _LEARNED:
            return None
        return math.sqrt(max(0.0, self._squares - _GUESS_WEIGHT * _FIRST_GUESS**2) / freedom)

    @property
    def sigma(self) -> float:
        """Standard deviation of a pair's log ratio: 0.02 is two measurements that differ by 2 % without a reason."""
        return math.sqrt(self._squares / self._freedom)

    def interval(self, logs: Sequence[float]) -> Ratio:
        """The mean ratio with its 95 % interval; how these themselves scatter counts too."""
        mean = statistics.fmean(logs)
        squares = self._squares + sum((value - mean) ** 2 for value in logs)
        freedom = self._freedom + len(logs) - 1
        half = _t95(freedom) * math.sqrt(squares / freedom) / math.sqrt(len(logs))
        return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _t95(freedom: float) -> float:
    """Two-sided 95 % quantile of Student's t, to within 4 % from two degrees of freedom on: they need not be whole."""
    return _Z95 + 2.4 / freedom + 4.0 / freedom**2


def robust(distances: Sequence[float]) -> float:
    """The standard deviation that distances from a middle have but for a few that are far off."""
    return _OF_MEDIAN * statistics.median(map(abs, distances))

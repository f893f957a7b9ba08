"""One figure of several repetitions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Median, mean and sample standard deviation of what was measured, and how often."""

    median: float
    mean: float
    deviation: float
    repetitions: int

    @property
    def share(self) -> float:
        """The standard deviation as a share of the mean."""
        return self.deviation / self.mean if self.mean else 0.0


def spread(values: Sequence[float]) -> Spread | None:
    """None of nothing."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.median(values), statistics.fmean(values), deviation, len(values))


class Ratio(NamedTuple):
    """How many times as much one side is as the other, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the two sides differ at all."""
        return self.low > 1.0 or self.high < 1.0


_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom."""


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Of pairs that were measured one beside the other: the mean of the log ratios, by Student's t; None of nothing.

    One pair alone has no interval: its ends are zero and infinity.
    """
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True) if a > 0 and b > 0]
    if not logs:
        return None
    mean = statistics.fmean(logs)
    if len(logs) == 1:
        return Ratio(math.exp(mean), 0.0, math.inf)
    freedom = len(logs) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.4 / freedom
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))

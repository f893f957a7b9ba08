from __future__ import annotations

import random
from itertools import pairwise

from tests.bench.measure import Measurement
from tests.bench.pairs import median_interval
from tests.bench.watching import HZ, Phase, losses


def phases(lost: float, pairs: int = 100, seed: int = 5) -> list[Phase]:
    """A machine whose speed wanders by several per cent in a minute, and jumps now and then as others use it."""
    source = random.Random(seed)
    speed, found = 1.0, []
    for hz in [hz for _ in range(pairs // 2) for hz in (0.0, HZ, HZ, 0.0)]:
        speed *= 1 + source.gauss(0, 0.01)
        ms = 50.0 * speed * (1 + source.gauss(0, 0.01)) * (1.3 if source.random() < 0.03 else 1.0)
        found.append(Phase(hz, ms / (1 - lost) if hz else ms))
    return found


def test_a_loss_of_one_per_cent_can_be_told_from_none_on_a_machine_that_drifts() -> None:
    lost, nothing = losses(phases(0.012))
    low, high = median_interval(lost)
    assert low > 0 and low < 1.2 < high and high - low < 1.5
    assert median_interval(nothing)[0] < 0 < median_interval(nothing)[1]
    low, high = median_interval(losses(phases(0.0))[0])
    assert low < 0 < high < 1, "nothing lost is shown to be less than one per cent"


def test_a_loss_over_the_budget_is_missed_and_one_below_it_is_kept() -> None:
    verdicts = [Measurement("", "%", losses(phases(lost))[0], 1.0, paired=True).within for lost in (0.0, 0.03)]
    assert verdicts == [True, False]


def test_a_steady_drift_is_taken_for_no_loss() -> None:
    drifting = [Phase(hz, 50.0 * 1.005**n) for n, hz in enumerate([0.0, HZ, HZ, 0.0] * 10)]
    lost, nothing = losses(drifting)
    assert abs(sum(lost) / len(lost)) < 0.01
    assert len(lost) == 20 and len(nothing) == 19
    assert all(one.hz == other.hz for one, other in list(pairwise(drifting))[1::2])

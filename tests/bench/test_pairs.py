from __future__ import annotations

import pytest
from tests.bench.measure import Measurement, row
from tests.bench.pairs import in_turns, median_interval, two_at_a_time


def test_who_is_first_changes_from_pair_to_pair() -> None:
    order: list[str] = []

    def side(name: str, value: float) -> float:
        order.append(name)
        return value

    assert in_turns(lambda: side("ours", 3.0), lambda: side("theirs", 2.0), 3) == [1.5, 1.5, 1.5]
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


@pytest.mark.parametrize("pairs", [1, 2, 5, 20])
def test_as_many_pairs_are_measured_as_were_asked_for(pairs: int) -> None:
    assert sum(two_at_a_time(pairs)) == pairs and max(two_at_a_time(pairs)) <= 2


def test_the_interval_holds_the_median_and_leaves_out_a_stray() -> None:
    low, high = median_interval([0.99, 1.0, 1.01] * 7 + [0.2])
    assert 0.98 < low <= 1.0 <= high < 1.02
    with pytest.raises(ValueError, match="needs samples"):
        median_interval([])


@pytest.mark.parametrize(
    ("samples", "word"),
    [((0.99, 1.0, 1.01) * 5, "kept"), ((0.9, 0.91, 0.92) * 5, "MISSED"), ((0.9, 1.0, 1.1) * 2, "not shown")],
)
def test_a_pair_of_sides_is_judged_by_the_interval(samples: tuple[float, ...], word: str) -> None:
    measured = Measurement("a / b", "×", samples, 0.02, "off 1 by at most", paired=True)
    assert row(measured).endswith(f"| {word} |")


def test_both_sides_of_a_band_are_not_a_miss() -> None:
    """An interval wider than the band shows nothing, though both of its ends are outside."""
    assert Measurement("a / b", "×", (0.9, 1.1), 0.02, "off 1 by at most", paired=True).within is None

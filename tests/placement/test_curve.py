from __future__ import annotations

from itertools import pairwise

from pagewise.placement.curve import curve, token_s

GB = 10**9


def test_reading_of_layers_goes_on_beside_computing_and_experts_are_waited_for() -> None:
    assert token_s(0.2, 1 * GB, 0, 2 * GB) == 0.5
    assert token_s(0.8, 1 * GB, 0, 2 * GB) == 0.8
    assert token_s(0.8, 1 * GB, 1 * GB, 2 * GB) == 1.3


def test_more_memory_is_never_slower_and_all_of_it_is_the_time_of_computing() -> None:
    points = curve(0.2, 2 * GB, 3 * GB, 0, GB // 50, lambda room: None)
    assert points[0].memory_bytes == 3 * GB // 10
    assert points[-1].memory_bytes > 3 * GB
    assert points[-1].token_s == 0.2
    assert all(left.token_s >= right.token_s for left, right in pairwise(points))
    assert all(left.memory_bytes < right.memory_bytes for left, right in pairwise(points))


def test_of_a_mixture_the_experts_go_by_what_routers_chose() -> None:
    points = curve(0.05, 2 * GB, 1 * GB, 9 * GB, 0, lambda room: max(0, GB - room // 4))
    at_half = min(points, key=lambda point: abs(point.memory_bytes - 5 * GB))
    assert 0.05 <= at_half.token_s < 0.2
    assert points[0].token_s > at_half.token_s

from __future__ import annotations

import pytest

from pagewise.app.pace import seconds_apart


def test_a_machine_with_a_free_core_is_drawn_on_eight_times_a_second() -> None:
    assert seconds_apart(0.001, 50.0) == pytest.approx(1 / 8)
    assert seconds_apart(0.001, None) == pytest.approx(1 / 8)


def test_where_every_core_computes_it_is_drawn_half_as_often() -> None:
    assert seconds_apart(0.001, 99.0) == pytest.approx(1 / 4)


def test_where_drawing_is_slow_there_is_time_left_for_the_keyboard() -> None:
    assert seconds_apart(0.05, 99.0) == pytest.approx(0.3)
    assert seconds_apart(5.0, 10.0) == pytest.approx(0.5)

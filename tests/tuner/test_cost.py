from __future__ import annotations

import pytest

from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim
from pagewise.tuner.cost import bound_for, cost_ms


def measured(n_output: int, ttft_ms: float = 500.0, tpot_ms: float = 20.0) -> Measured:
    ns = 1_000_000
    return Measured(0, int(ttft_ms * ns), int((n_output - 1) * tpot_ms * ns), int(ttft_ms * ns), 512, n_output)


def test_a_whole_answer_counts_as_such_also_where_a_part_of_it_was_measured() -> None:
    aim = Aim("batch", n_output=128)
    whole = 500.0 + 127 * 20.0
    assert cost_ms(aim, measured(128), None) == pytest.approx(whole)
    assert cost_ms(aim, measured(32), None) == pytest.approx(whole)


def test_of_long_prompts_the_first_token_alone_counts() -> None:
    assert cost_ms(Aim("long-prompts"), measured(8, tpot_ms=1.0), None) == pytest.approx(500.0)
    assert cost_ms(Aim("long-prompts"), measured(8, tpot_ms=99.0), None) == pytest.approx(500.0)


def test_a_chat_pays_for_a_first_token_that_comes_late() -> None:
    assert cost_ms(Aim("chat"), measured(64), 1000.0) == pytest.approx(20.0)
    assert cost_ms(Aim("chat"), measured(64), 250.0) == pytest.approx(40.0)
    assert bound_for(Aim("chat", ttft_bound_ms=300.0), measured(64)) == 300.0
    assert bound_for(Aim("chat"), measured(64)) == pytest.approx(550.0)
    assert bound_for(Aim("batch"), measured(64)) is None

"""Figures of a turn, from moments that are given."""

from __future__ import annotations

from typing import Any

import pytest

from pagewise.engine import timing
from pagewise.engine.timing import TurnClock, probe_cost

MS = 1_000_000


class Clock:
    """Stands for the system's clock; ``at`` is in ms."""

    def __init__(self) -> None:
        self.at = 0.0

    def perf_counter_ns(self) -> int:
        return round(self.at * MS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter_ns", clock.perf_counter_ns)
    return clock


def finish(turn: TurnClock) -> Any:
    return turn.timing(kv_used=10, n_ctx=100, cold=False)


def test_parts_of_a_turn(clock: Clock) -> None:
    clock.at = 12
    turn = TurnClock(read_ns=10 * MS)
    turn.n_prompt, turn.n_reused = 8, 3
    clock.at = 15
    turn.prompt_made()
    clock.at = 40
    turn.prefilled()
    clock.at = 41
    assert turn.token(1 * MS) == 31
    clock.at = 46
    assert turn.token(4 * MS) == 5
    turn.text()
    clock.at = 54
    assert turn.token(5 * MS) == 8
    result = finish(turn)
    assert (result.queue_ms, result.template_ms, result.prefill_ms, result.first_sample_ms) == (2, 3, 25, 1)
    assert result.ttft_ms == 31 == 2 + 3 + 25 + 1
    assert result.ttft_text_ms == 36
    assert result.itl_ms == (5, 8) and result.tpot_ms == 6.5
    assert result.loop_cost_ms == 2
    assert result.n_output == 3 and result.depth == 8
    assert result.prefill_rate == pytest.approx(1000 * 5 / 25)
    assert result.decode_rate == pytest.approx(1000 / 6.5)


def test_a_profiled_token_is_in_no_rate(clock: Clock) -> None:
    turn = TurnClock(read_ns=0)
    turn.n_prompt = 4
    turn.prompt_made()
    turn.prefilled()
    for token, at in enumerate((10, 20, 32, 532, 542, 560)):
        clock.at = at
        turn.token(1 * MS, profiled=token == 3)
        if token == 5:
            turn.probed()
    result = finish(turn)
    assert result.itl_ms == (10, 12, 500, 10, 18) and result.profiled == (3,)
    assert result.counted_ms == (10, 12, 10, 18)
    assert result.tpot_ms == 12.5 and result.decode_rate == 80
    assert result.itl_percentile(100) == 18
    assert result.loop_cost_ms == 10
    assert result.probe_cost_pct == pytest.approx(100 * (18 - 10) / 5 / 12.5)


def test_of_profiled_tokens_alone_there_is_no_rate(clock: Clock) -> None:
    turn = TurnClock(read_ns=0)
    for at in (10, 400):
        clock.at = at
        turn.token(0, profiled=at == 400)
    result = finish(turn)
    assert (result.tpot_ms, result.itl_percentile(50), result.loop_cost_ms) == (None, None, None)


def test_one_token_has_no_rate(clock: Clock) -> None:
    turn = TurnClock(read_ns=0)
    turn.prompt_made()
    turn.prefilled()
    clock.at = 5
    turn.token(0)
    result = finish(turn)
    assert result.ttft_ms == 5
    assert (result.tpot_ms, result.decode_rate, result.loop_cost_ms, result.ttft_text_ms) == (None, None, None, None)


def test_stopped_in_prefill(clock: Clock) -> None:
    turn = TurnClock(read_ns=0)
    clock.at = 2
    turn.prompt_made()
    clock.at = 30
    result = finish(turn)
    assert result.prefill_ms == 28
    assert (result.ttft_ms, result.first_sample_ms, result.depth) == (None, None, None)


def test_probe_cost_compares_with_neighbours() -> None:
    gaps = (10.0, 10.0, 16.0, 10.0, 12.0, 10.0, 16.0, 10.0)
    tpot = sum(gaps) / len(gaps)
    assert probe_cost(gaps, [3, 7], tpot) == pytest.approx(100 * 6 * 2 / 8 / tpot)


def test_a_profiled_token_is_no_neighbour() -> None:
    gaps = (10.0, 10.0, 16.0, 900.0, 10.0, 10.0)
    assert probe_cost(gaps, [3], 11.0, [4]) == pytest.approx(100 * 6 * 1 / 6 / 11)


@pytest.mark.parametrize(("gaps", "probed"), [((), []), ((1.0, 2.0), []), ((1.0,), [1]), ((1.0, 1.0), [1, 2])])
def test_probe_cost_that_cannot_be_known(gaps: tuple[float, ...], probed: list[int]) -> None:
    assert probe_cost(gaps, probed, 1.0) is None

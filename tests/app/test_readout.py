from __future__ import annotations

from app import scenes
from pagewise import messages
from pagewise.app.readout import Readout


def loaded(change: messages.ChangeClass = "process") -> messages.Loaded:
    return messages.Loaded(1, scenes.LAPTOP, scenes.qwen(), change, 2000.0)


def tokens(turn: int, n: int, step_ms: float) -> messages.Tokens:
    return messages.Tokens(turn, (n,), "x", n, 100 + n, step_ms)


def test_live_tpot_is_the_mean_gap_after_the_first_token() -> None:
    readout = Readout()
    readout.begin_turn(2)
    for n, step in ((1, 312.0), (2, 40.0), (3, 42.0)):
        readout.take(tokens(2, n, step))
    assert readout.ttft_ms == 312.0
    assert readout.tpot_ms == 41.0
    assert readout.decode_rate == 1000 / 41.0


def test_one_token_has_no_tpot() -> None:
    readout = Readout()
    readout.begin_turn(2)
    readout.take(tokens(2, 1, 312.0))
    assert readout.tpot_ms is None and readout.decode_rate is None


def test_cold_turns_are_left_out_of_the_percentiles() -> None:
    readout = Readout()
    readout.take(loaded())
    readout.take(messages.Finished(2, "end", scenes.timing(cold=True, tpot=400.0)))
    assert readout.warm_turns == 0 and readout.tpot_percentile(50) is None
    readout.take(messages.Finished(3, "end", scenes.timing(tpot=40.0)))
    readout.take(messages.Finished(4, "end", scenes.timing(tpot=42.0)))
    assert readout.tpot_percentile(50) == 41.0


def test_another_model_begins_afresh_and_a_live_change_does_not() -> None:
    readout = Readout()
    readout.take(loaded())
    readout.take(messages.Finished(2, "end", scenes.timing()))
    readout.take(messages.Layers(2, scenes.clock()))
    readout.take(messages.Judged(2, scenes.VERDICT))
    readout.take(loaded("live"))
    assert readout.warm_turns == 1 and readout.clock is not None
    readout.take(loaded("model"))
    assert readout.warm_turns == 0 and readout.clock is None and readout.verdict is None


def test_page_in_history_keeps_what_is_not_known_as_that() -> None:
    readout = Readout()
    readout.take(messages.Reading(scenes.snapshot(page_in=1e6)))
    readout.take(messages.Reading(scenes.snapshot(page_in=None, stalls=None)))
    assert list(readout.page_in) == [(1e6, 2.0), (None, None)]


def test_events_without_figures_change_nothing() -> None:
    readout = Readout()
    revision = readout.revision
    readout.take(scenes.hello())
    assert readout.revision == revision

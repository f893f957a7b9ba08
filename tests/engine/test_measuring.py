"""Measurements in a real engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.engine.harness import EngineProcess
from tests.synthetic import Shape, make_model

from pagewise.jobs.base import JobFailed
from pagewise.jobs.measure import Measure, Measured, Test
from pagewise.messages import Stop
from pagewise.settings import Profile


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess() as process:
        process.hello()
        process.try_load(Profile(name="plain", model=str(make_model()), n_ctx=512, n_batch=64, threads=1))
        yield process


def ask(engine: EngineProcess, test: Test, n_prompt: int, n_output: int, depth: int = 0) -> Measured | JobFailed:
    id = engine.next_id()
    engine.send(Measure(id, test, n_prompt, n_output, depth))
    event, _ = engine.until(lambda event: isinstance(event, Measured | JobFailed) and event.id == id)
    assert isinstance(event, Measured | JobFailed)
    return event


def test_a_prefill_has_a_rate_and_nothing_else(engine: EngineProcess) -> None:
    taken = ask(engine, "prefill", 200, 0)
    assert isinstance(taken, Measured)
    assert taken.n_prompt == 200 and taken.prefill_rate is not None and taken.prefill_rate > 0
    assert taken.tpot_ms is None and taken.ttft_ms is None


def test_a_decode_is_all_its_tokens(engine: EngineProcess) -> None:
    taken = ask(engine, "decode", 0, 10, depth=100)
    assert isinstance(taken, Measured) and taken.decode_ns is not None
    assert taken.tpot_ms == pytest.approx(taken.decode_ns / 10 / 1e6)
    assert taken.ttft_ms is None and taken.prefill_rate is None


def test_a_chat_splits_at_its_first_token(engine: EngineProcess) -> None:
    taken = ask(engine, "chat", 50, 10, depth=100)
    assert isinstance(taken, Measured) and taken.decode_ns is not None
    assert taken.n_prompt == 50
    assert taken.ttft_ns is not None and taken.prefill_ns is not None and taken.ttft_ns >= taken.prefill_ns
    assert taken.tpot_ms == pytest.approx(taken.decode_ns / 9 / 1e6)


def test_more_work_takes_longer(engine: EngineProcess) -> None:
    short, long = ask(engine, "decode", 0, 2), ask(engine, "decode", 0, 200)
    assert isinstance(short, Measured) and isinstance(long, Measured)
    assert short.decode_ns is not None and long.decode_ns is not None
    assert long.decode_ns > 5 * short.decode_ns


@pytest.mark.parametrize("shape", [Shape(architecture="mamba"), Shape(architecture="gemma3", sliding_window=32)])
def test_a_depth_that_cannot_be_cut_back_is_evaluated_again(shape: Shape) -> None:
    with EngineProcess() as engine:
        engine.hello()
        engine.try_load(Profile(name="stateful", model=str(make_model(shape)), n_ctx=512, threads=1))
        for _ in range(2):
            taken = ask(engine, "chat", 20, 4, depth=100)
            assert isinstance(taken, Measured) and taken.n_prompt == 20


def test_what_does_not_fit_the_context_is_refused_with_the_number_that_would(engine: EngineProcess) -> None:
    failed = ask(engine, "chat", 400, 100, depth=100)
    assert isinstance(failed, JobFailed)
    assert "600" in failed.failure.next


def test_a_measurement_can_be_stopped(engine: EngineProcess) -> None:
    id = engine.next_id()
    engine.send(Measure(id, "decode", 0, 500, 0))
    engine.send(Stop(id))
    event, _ = engine.until(lambda event: isinstance(event, Measured | JobFailed) and event.id == id)
    assert isinstance(event, JobFailed) and event.cancelled


def test_without_a_model_there_is_nothing_to_measure() -> None:
    with EngineProcess() as engine:
        engine.hello()
        failed = ask(engine, "decode", 0, 1)
    assert isinstance(failed, JobFailed) and "no model" in failed.failure.what

"""The host with scripted engines: loads, turns, losses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
from tests.host.talk import SCRIPTED, Talk, gone, profile

from pagewise.client import HostClient
from pagewise.messages import (
    EngineHello,
    EngineLost,
    EngineStatus,
    Finished,
    HostHello,
    Judged,
    Layers,
    Loaded,
    LoadFailed,
    LoadProgress,
    Notice,
    Reading,
    Release,
    SetRate,
    Stop,
    Tokens,
)
from pagewise.settings import Sampling

GOOD = profile("good")


async def loaded(talk: Talk, **keys: object) -> Loaded:
    talk.load(profile("good", **keys))
    return await talk.wait(Loaded)


def let_engines_die(dead: bool) -> None:
    """Whether an engine that is started from now on ends at once."""
    mark = Path(os.environ["FAKE_ENGINE_DEAD"])
    mark.touch() if dead else mark.unlink()


async def engine_pid(talk: Talk) -> int:
    status = await talk.wait(EngineStatus, lambda status: status.state in ("ready", "generating"))
    assert status.pid is not None
    return status.pid


async def test_a_first_load_and_a_turn(talk: Talk) -> None:
    await talk.wait(HostHello)
    load = talk.load(GOOD)
    assert (await talk.wait(EngineStatus)).state == "starting"
    await talk.wait(EngineHello)
    assert (await talk.wait(EngineStatus)).state == "loading"
    assert (await talk.wait(LoadProgress)).id == load
    done = await talk.wait(Loaded)
    assert (done.id, done.change, done.profile) == (load, "process", GOOD)
    assert done.total_ms > done.model.load_ms
    assert (await talk.wait(EngineStatus)).state == "ready"
    turn = talk.ask(12)
    assert (await talk.wait(EngineStatus)).state == "generating"
    finished = await talk.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "length")
    assert [event.text for event in talk.all(Tokens)] == [f" {n}" for n in range(12)]
    assert talk.all(Layers)[0].id == turn
    judged = await talk.wait(Judged)
    assert judged.id == turn and judged.verdict.why
    assert (await talk.wait(EngineStatus)).state == "ready"


async def test_change_classes_go_to_the_same_engine(talk: Talk) -> None:
    await loaded(talk)
    pid = await engine_pid(talk)
    for change, keys in (
        ("live", {"sampling": Sampling(temperature=0.1)}),
        ("context", {"n_ctx": 512}),
        ("model", {"n_gpu_layers": 0}),
    ):
        talk.load(profile("good", **keys))
        done = await talk.wait(Loaded)
        assert done.change == change
        assert await engine_pid(talk) == pid


async def test_a_profile_that_runs_alike_is_in_force_at_once(talk: Talk) -> None:
    first = await loaded(talk)
    renamed = msgspec.structs.replace(first.profile, name="other name", description="the same")
    talk.load(renamed)
    done = await talk.wait(Loaded)
    assert (done.change, done.profile.name, done.model) == ("none", "other name", first.model)
    assert (await talk.wait(EngineStatus, lambda status: status.profile == "other name")).state == "ready"


@pytest.mark.parametrize("word", ["refuses", "keeps", "dies"])
async def test_a_load_that_fails_leaves_the_former_profile_in_force(talk: Talk, word: str) -> None:
    await loaded(talk)
    pid = await engine_pid(talk)
    load = talk.load(profile("bad", word))
    failed = await talk.wait(LoadFailed)
    assert (failed.id, failed.restored, failed.cancelled) == (load, "good", False)
    assert failed.failure.why
    after = await engine_pid(talk)
    assert (after == pid) == (word != "dies")
    talk.ask()
    assert (await talk.wait(Finished)).reason == "length"


async def test_an_engine_that_dies_of_a_load_says_how(talk: Talk) -> None:
    talk.load(profile("bad", "dies"))
    failed = await talk.wait(LoadFailed)
    assert "while it loaded" in failed.failure.what and "SIGSEGV" in failed.failure.why
    assert failed.restored is None


async def test_a_first_load_that_fails_leaves_nothing(talk: Talk) -> None:
    talk.load(profile("bad", "refuses"))
    assert (await talk.wait(LoadFailed)).restored is None
    assert (await talk.wait(EngineStatus, lambda status: status.state == "none")).pid is None
    talk.ask()
    finished = await talk.wait(Finished)
    assert finished.reason == "failed" and finished.failure is not None
    assert "no model" in finished.failure.what


async def test_former_and_new_profile_both_fail(talk: Talk) -> None:
    """The former one worked once, but does not load a second time."""
    await loaded(talk)
    await engine_pid(talk)
    let_engines_die(True)
    talk.load(profile("bad", "dies"))
    failed = await talk.wait(LoadFailed)
    assert failed.restored is None and "good" in failed.failure.next
    let_engines_die(False)
    talk.ask()
    assert (await talk.wait(Loaded)).profile.name == "good"
    assert (await talk.wait(Finished)).reason == "length"


@pytest.mark.parametrize("word", ["hangs", "hears"])
async def test_a_load_is_cancelled(talk: Talk, word: str) -> None:
    await loaded(talk)
    pid = await engine_pid(talk)
    load = talk.load(profile("slow", word))
    await talk.wait(LoadProgress, lambda progress: progress.id == load and progress.phase == "weights")
    talk.send(Stop(load))
    failed = await talk.wait(LoadFailed)
    assert (failed.id, failed.cancelled, failed.restored) == (load, True, "good")
    assert (await engine_pid(talk) == pid) == (word == "hears")
    if word == "hangs":
        await gone(pid)


async def test_a_first_load_is_cancelled(talk: Talk) -> None:
    load = talk.load(profile("slow", "hangs"))
    await talk.wait(LoadProgress)
    talk.send(Stop(load))
    failed = await talk.wait(LoadFailed)
    assert failed.cancelled and failed.restored is None
    assert (await talk.wait(EngineStatus, lambda status: status.state == "none")).pid is None


async def test_a_load_is_cancelled_while_the_engine_starts(talk: Talk) -> None:
    load = talk.load(GOOD)
    talk.send(Stop(load))
    failed = await talk.wait(LoadFailed)
    assert (failed.id, failed.cancelled) == (load, True)


async def test_a_load_takes_the_place_of_another(talk: Talk) -> None:
    await loaded(talk)
    first = talk.load(profile("slow", "hangs"))
    await talk.wait(LoadProgress, lambda progress: progress.id == first and progress.phase == "weights")
    second = talk.load(profile("better"))
    failed = await talk.wait(LoadFailed)
    assert (failed.id, failed.cancelled, failed.restored) == (first, True, None)
    done = await talk.wait(Loaded)
    assert (done.id, done.profile.name) == (second, "better")


async def test_a_question_waits_for_the_load(talk: Talk) -> None:
    talk.load(GOOD)
    turn = talk.ask()
    assert (await talk.wait(Finished)).id == turn
    kinds = [type(event) for event in talk.seen if isinstance(event, (Loaded, Finished))]
    assert kinds == [Loaded, Finished]


async def test_questions_are_answered_in_order_and_one_that_waits_can_be_stopped(talk: Talk) -> None:
    await loaded(talk)
    first, second, third = talk.ask(200), talk.ask(), talk.ask()
    talk.send(Stop(second))
    done = [await talk.wait(Finished) for _ in range(3)]
    assert [(finished.id, finished.reason) for finished in done] == [
        (second, "stopped"),
        (first, "length"),
        (third, "length"),
    ]


async def test_a_reply_is_stopped(talk: Talk) -> None:
    await loaded(talk)
    turn = talk.ask(100_000)
    await talk.wait(Tokens)
    talk.send(Stop(turn))
    assert (await talk.wait(Finished)).reason == "stopped"


async def test_a_switch_stops_the_reply_and_keeps_it(talk: Talk) -> None:
    await loaded(talk)
    turn = talk.ask(100_000)
    await talk.wait(Tokens)
    load = talk.load(profile("better"))
    finished = await talk.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "stopped")
    assert (await talk.wait(Loaded)).id == load


async def test_a_live_change_lets_the_reply_go_on(talk: Talk) -> None:
    await loaded(talk)
    turn = talk.ask(150)
    await talk.wait(Tokens)
    talk.load(profile("good", sampling=Sampling(temperature=0.1)))
    finished = await talk.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "length")
    assert (await talk.wait(Loaded)).change == "live"


async def test_an_engine_killed_in_mid_reply_is_replaced(talk: Talk) -> None:
    await loaded(talk)
    pid = await engine_pid(talk)
    turn = talk.ask(100_000)
    await talk.wait(Tokens)
    os.kill(pid, signal.SIGKILL)
    finished = await talk.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "engine lost")
    assert finished.failure is not None and "SIGKILL" in finished.failure.why
    lost = await talk.wait(EngineLost)
    assert (lost.signal, lost.exit_code, lost.out_of_memory) == (signal.SIGKILL, None, False)
    again = await talk.wait(Loaded)
    assert again.profile.name == "good"
    assert await engine_pid(talk) != pid
    talk.ask()
    assert (await talk.wait(Finished)).reason == "length"


async def test_an_abort_is_told_in_the_engines_own_words(talk: Talk) -> None:
    talk.load(profile("good", "aborts"))
    talk.ask()
    lost = await talk.wait(EngineLost)
    assert lost.signal == signal.SIGABRT
    assert "GGML_ASSERT(n_tokens > 0)" in lost.failure.why


async def test_an_engine_that_goes_on_ending_stays_down_until_it_is_asked_for(talk: Talk) -> None:
    await loaded(talk)
    let_engines_die(True)
    os.kill(await engine_pid(talk), signal.SIGKILL)
    notice = await talk.wait(Notice)
    assert "3 times in a row" in notice.failure.why
    assert len(talk.all(EngineLost)) == 3
    let_engines_die(False)
    talk.ask()
    assert (await talk.wait(Loaded)).profile.name == "good"
    assert (await talk.wait(Finished)).reason == "length"


async def test_an_engine_that_ends_at_every_question_stays_down_too(talk: Talk) -> None:
    talk.load(profile("good", "aborts"))
    for _ in range(3):
        talk.ask()
        await talk.wait(EngineLost)
    await talk.wait(Notice, lambda notice: "not started again" in notice.failure.what)


@pytest.mark.parametrize(
    ("word", "why"), [("deaf", "asked to stop"), ("mute", "begun to answer"), ("babbles", "not the protocol")]
)
async def test_an_engine_that_does_not_do_what_it_must_is_ended(talk: Talk, word: str, why: str) -> None:
    talk.load(profile("good", word))
    pid = await engine_pid(talk)
    turn = talk.ask(1_000_000)
    if word == "deaf":
        await talk.wait(Tokens)
        talk.send(Stop(turn))
    finished = await talk.wait(Finished)
    assert finished.id == turn and finished.reason == "engine lost"
    assert finished.failure is not None and why in finished.failure.why
    await talk.wait(Loaded)
    await gone(pid)


async def test_a_load_without_a_sign_of_life_is_ended(talk: Talk) -> None:
    talk.load(profile("slow", "hangs"))
    failed = await talk.wait(LoadFailed)
    assert "did nothing" in failed.failure.why and not failed.cancelled


async def test_release_ends_the_engine_and_the_next_question_brings_it_back(talk: Talk) -> None:
    await loaded(talk)
    pid = await engine_pid(talk)
    talk.send(Release())
    assert (await talk.wait(EngineStatus, lambda status: status.state == "released")).pid is None
    await gone(pid)
    talk.ask()
    assert (await talk.wait(Loaded)).profile.name == "good"
    assert (await talk.wait(Finished)).reason == "length"


async def test_readings_come_without_an_engine_and_stop_when_nobody_looks(talk: Talk) -> None:
    talk.send(SetRate(10))
    first = await talk.wait(Reading)
    assert first.snapshot.engine_pid is None and first.snapshot.memory.total_bytes > 0
    await talk.wait(Reading)
    talk.send(SetRate(0))
    # One that was on its way may still come; then a load's whole life passes without any.
    await loaded(talk)
    count = len(talk.all(Reading))
    talk.ask(100)
    await talk.wait(Finished)
    assert len(talk.all(Reading)) == count


async def test_readings_go_on_through_a_crash(talk: Talk) -> None:
    talk.send(SetRate(10))
    await loaded(talk)
    pid = await engine_pid(talk)
    with_engine = await talk.wait(Reading, lambda reading: reading.snapshot.engine_pid == pid)
    assert with_engine.snapshot.paging is not None
    assert with_engine.snapshot.memory.engine_rss_bytes is not None
    os.kill(pid, signal.SIGKILL)
    await talk.wait(EngineLost)
    await talk.wait(Reading, lambda reading: reading.snapshot.engine_pid not in (None, pid))


async def test_versions_that_differ_are_told() -> None:
    from pagewise.messages import Hello, encode

    class Older(HostClient):
        def _write(self, command: object) -> bool:
            if isinstance(command, Hello):
                command = Hello(protocol=0)
                assert self._process is not None and self._process.stdin is not None
                self._process.stdin.write(encode(command))
                return True
            return super()._write(command)  # type: ignore[arg-type]

    async with Talk(Older(SCRIPTED)) as talk:
        await talk.wait(HostHello)
        assert "versions" in (await talk.wait(Notice)).failure.what

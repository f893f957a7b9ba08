"""A tune in the engine of the conversation: it gives way at once, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.host.talk import PATIENCE_S, Talk, profile
from tests.synthetic import make_model

from pagewise.client import HostClient
from pagewise.host.jobs.in_place import InPlace, to_its_end
from pagewise.host.slot import EngineDied, LoadRefused
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.tune import MEASURE, Aim, Trial, TrialEnded, Tune, Tuned
from pagewise.messages import ChangeClass, EngineLost, EngineStatus, Failure, Finished, Loaded, Notice, Stop
from pagewise.readings import TurnTiming
from pagewise.settings import Keep, Profile

TUNE = 70
AIM = Aim(n_prompt=200, n_output=8, depth=0)
"""Of so long a message that another n_ubatch is tried, which takes another context."""


@pytest.fixture(autouse=True)
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the engine was told to load, one line each."""
    path = tmp_path / "loads"
    monkeypatch.setenv("FAKE_ENGINE_LOADS", str(path))
    return path


def told(loads: Path) -> str:
    return loads.read_text()


async def begun(loads: Path) -> None:
    """Wait until the engine is at another context."""
    while "context" not in told(loads):  # noqa: ASYNC110 - the engine sends no event before it is done
        await asyncio.sleep(0.01)


async def tuning(talk: Talk, *words: str, most_trials: int = 6, fixed: tuple[str, ...] = ()) -> Profile:
    """A tune under way in the engine of the conversation; the profile that is in force."""
    in_force = profile("good", *words, threads=1)
    talk.load(in_force)
    await talk.wait(Loaded)
    talk.send(Tune(TUNE, in_force, AIM, fixed=fixed, most_trials=most_trials, in_place=True, fresh=True))
    await talk.wait(JobProgress, lambda event: event.id == TUNE and event.phase == MEASURE)
    return in_force


async def test_a_message_stops_the_measurement_in_the_engine(talk: Talk) -> None:
    await tuning(talk, "endless")
    turn = talk.ask(4)
    assert (await talk.wait(JobFailed)).cancelled
    assert (await talk.wait(Finished, lambda event: event.id == turn)).reason == "length"
    assert not talk.all(EngineLost), "it was told to stop, and did: nothing had to be ended for it"


async def test_the_persons_stop_reaches_the_engine_too(talk: Talk) -> None:
    await tuning(talk, "endless")
    talk.send(Stop(TUNE))
    assert (await talk.wait(JobFailed)).cancelled
    turn = talk.ask(4)
    assert (await talk.wait(Finished, lambda event: event.id == turn)).reason == "length"
    assert not talk.all(EngineLost)


async def test_another_profile_ends_it_and_comes_in_force(talk: Talk) -> None:
    await tuning(talk, "endless")
    talk.load(profile("other"))
    assert (await talk.wait(JobFailed)).cancelled
    assert (await talk.wait(Loaded)).profile.name == "other"
    assert not talk.all(EngineLost)


async def test_a_tune_waits_for_the_reply_and_gives_way_to_the_next_question(talk: Talk) -> None:
    talk.load(profile("good", threads=1))
    await talk.wait(Loaded)
    first = talk.ask(200)
    talk.send(Tune(TUNE, profile("good", threads=1), AIM, in_place=True, fresh=True))
    assert "reply" in (await talk.wait(JobProgress)).phase
    second = talk.ask(4)
    ends = [await talk.wait(Finished), await talk.wait(Finished)]
    assert [(event.id, event.reason) for event in ends] == [(first, "length"), (second, "length")]
    assert not talk.all(TrialEnded)
    assert [event.cancelled for event in talk.all(JobFailed)] == [True]


async def test_a_tune_after_a_reply_begins_when_that_is_over(talk: Talk) -> None:
    talk.load(profile("good", threads=1))
    await talk.wait(Loaded)
    talk.ask(100)
    talk.send(Tune(TUNE, profile("good", threads=1), AIM, most_trials=2, in_place=True, fresh=True))
    assert (await talk.wait(Finished)).reason == "length"
    assert (await talk.wait(Tuned)).trials


async def test_an_engine_that_is_killed_ends_the_tune_and_is_replaced(talk: Talk) -> None:
    await tuning(talk, "endless")
    pid = talk.all(EngineStatus)[-1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert "measured" in (await talk.wait(EngineLost)).failure.what
    assert not (await talk.wait(JobFailed)).cancelled
    assert (await talk.wait(Loaded)).profile.name == "good"
    turn = talk.ask(4)
    assert (await talk.wait(Finished, lambda event: event.id == turn)).reason == "length"


async def test_an_engine_that_dies_of_a_trial_is_replaced_and_the_person_told(talk: Talk) -> None:
    await tuning(talk, "falls", fixed=("threads", "threads_batch"))
    lost = await talk.wait(EngineLost)
    assert lost.signal == signal.SIGSEGV
    assert (await talk.wait(Loaded)).profile.name == "good"
    assert [event.cancelled for event in talk.all(JobFailed)] == [False]


async def test_an_engine_that_has_lost_its_model_over_a_trial_is_replaced(talk: Talk) -> None:
    await tuning(talk, "loses", fixed=("threads", "threads_batch"))
    assert "could not go back" in (await talk.wait(EngineLost)).failure.why
    assert (await talk.wait(Loaded)).profile.name == "good"
    turn = talk.ask(4)
    assert (await talk.wait(Finished, lambda event: event.id == turn)).reason == "length"
    assert [event.cancelled for event in talk.all(JobFailed)] == [False]


async def test_an_engine_that_hangs_at_a_trial_is_ended_and_replaced(talk: Talk, loads: Path) -> None:
    await tuning(talk, "sticks", fixed=("threads", "threads_batch"))
    await asyncio.wait_for(begun(loads), PATIENCE_S)
    turn = talk.ask(4)
    assert "did nothing" in (await talk.wait(EngineLost)).failure.why
    assert (await talk.wait(Loaded)).profile.name == "good"
    assert (await talk.wait(Finished, lambda event: event.id == turn)).reason == "length"


async def test_a_message_in_the_middle_of_a_change_leaves_the_profile_that_was_in_force(
    talk: Talk, loads: Path
) -> None:
    in_force = await tuning(talk, "lingers", fixed=("threads", "threads_batch"))
    await asyncio.wait_for(begun(loads), PATIENCE_S)
    turn = talk.ask(4)
    assert (await talk.wait(JobFailed)).cancelled
    assert (await talk.wait(Finished, lambda event: event.id == turn)).reason == "length"
    changed = [line for line in told(loads).splitlines() if line.startswith("context")]
    assert len(changed) == 2 and changed[-1] == f"context {in_force.n_ubatch}"


async def test_what_fails_in_the_conversations_engine_is_kept_from_no_later_tune(talk: Talk, tmp_path: Path) -> None:
    """There the KV cache has to come along: an engine of its own may well do what this one refuses."""
    in_force = profile("good", threads=2)
    talk.load(in_force)
    await talk.wait(Loaded)
    for time, in_place in enumerate((True, False)):
        talk.send(Tune(TUNE + time, in_force, AIM, most_trials=3, in_place=in_place, fresh=True))
        done = await talk.wait(Tuned)
        assert any(trial.pairs for trial in done.trials if trial.changes)
        kept = list((tmp_path / "state" / "pagewise" / "tune").glob("*.jsonl"))
        assert bool(kept) != in_place


async def test_without_a_model_there_is_nothing_to_tune(talk: Talk) -> None:
    talk.send(Tune(TUNE, Profile(name="none"), AIM, in_place=True))
    assert "No model" in (await talk.wait(JobFailed)).failure.why


class Refuses:
    """A slot whose engine refuses as many loads as ``kept`` says, and still holds these profiles then."""

    def __init__(self, *kept: str | None) -> None:
        self.engine: object | None = object()
        self.must_carry: list[bool] = []
        self.given_up: list[str] = []
        self._kept = list(kept)

    async def load(self, id: int, profile: Profile, change: ChangeClass, *, must_carry: bool) -> Loaded:
        self.must_carry.append(must_carry)
        if self._kept:
            raise LoadRefused(Failure("It was refused", "Too little RAM is free.", "Wait."), self._kept.pop(0))
        note = "" if must_carry else "too little RAM is free to put the KV cache aside"
        return Loaded(id, profile, None, change, 1.0, kv_note=note)  # type: ignore[arg-type]

    async def give_up(self, why: str) -> None:
        self.given_up.append(why)
        self.engine = None


def tried_in(slot: Refuses, said: list[Any]) -> InPlace:
    """A place where a trial with another micro-batch is in force."""
    job: Any = SimpleNamespace(id=TUNE, slot=slot, send=said.append)
    place = InPlace(job, Profile(name="good"), None)  # type: ignore[arg-type]
    place.profile = Profile(name="good", n_ubatch=64)
    return place


async def test_what_was_in_force_comes_back_even_where_its_cache_cannot() -> None:
    slot, said = Refuses("good"), []  # type: ignore[var-annotated]
    place = tried_in(slot, said)
    await place.restore()
    assert place.profile == Profile(name="good")
    assert slot.must_carry == [True, False] and not slot.given_up
    assert [type(event) for event in said] == [Notice] and "RAM" in said[0].failure.why


async def test_an_engine_that_refuses_what_was_in_force_is_given_up() -> None:
    slot = Refuses("good", "good")
    place = tried_in(slot, [])
    with pytest.raises(EngineDied):
        await place.restore()
    assert slot.must_carry == [True, False] and len(slot.given_up) == 1
    await place.restore()


async def test_an_engine_that_does_not_stop_is_ended() -> None:
    sent: list[object] = []
    refused: list[str] = []
    engine: Any = SimpleNamespace(send=sent.append)

    async def give_up(why: str) -> None:
        refused.append(why)

    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    slot = SimpleNamespace(engine=engine, give_up=give_up)
    job: Any = SimpleNamespace(id=TUNE, slot=slot, expect=lambda id: answer)
    place = InPlace(job, Profile(name="good"), None)  # type: ignore[arg-type]
    place._stop_s = 0.0
    measuring = asyncio.create_task(place.measure(BenchTest("chat", 8, 8)))
    while not sent:  # noqa: ASYNC110 - nobody says when it has been sent
        await asyncio.sleep(0)
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert Stop(TUNE) in sent and len(refused) == 1


async def test_what_has_begun_comes_to_its_end_however_often_it_is_cancelled() -> None:
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await go.wait()
        done.append(True)

    task = asyncio.create_task(to_its_end(work()))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    """A host with real engines."""
    async with Talk(HostClient()) as talk:
        yield talk


@pytest.mark.parametrize(
    ("tuned", "keys"),
    [("flash_attention", {}), ("n_ubatch", {}), ("threads", {"placement": Keep("1MiB")})],
    ids=["flash attention", "micro-batch", "streamed"],
)
async def test_the_conversation_stays_in_the_cache(real: Talk, tuned: str, keys: dict[str, object]) -> None:
    plain = Profile(name="plain", model=str(make_model()), n_ctx=1024, threads=1, flash_attention="on", **keys)  # type: ignore[arg-type]
    real.load(plain)
    await real.wait(Loaded)
    before = await answered(real)
    fixed = tuple(key for key in Profile.__struct_fields__ if key != tuned)
    tried: list[Trial] = []
    for time in range(8):
        # On a machine that is too noisy in this moment nothing is tried.
        real.send(Tune(TUNE + time, plain, AIM, fixed=fixed, most_trials=2, in_place=True, fresh=True))
        tried += [trial for trial in (await real.wait(Tuned)).trials if trial.changes]
        if tried:
            break
    assert tried and all(tuned in " ".join(trial.changes) and trial.tpot_ms for trial in tried)
    after = await answered(real)
    assert after.n_reused == before.n_prompt - 1 and after.n_prompt == before.n_prompt
    assert not real.all(EngineLost) and len(real.all(Loaded)) == 1


async def answered(talk: Talk) -> TurnTiming:
    turn = talk.ask(8)
    timing = (await talk.wait(Finished, lambda event: event.id == turn)).timing
    assert timing is not None
    return timing

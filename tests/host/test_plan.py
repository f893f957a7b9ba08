"""Plans by way of the host: which engine makes them, when, and what is kept of them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec import structs
from tests.host.talk import PATIENCE_S, Talk, children, gone
from tests.synthetic import make_model

from pagewise.client import HostClient
from pagewise.failure import Failure
from pagewise.host.jobs.job import JobError
from pagewise.host.jobs.plan import run
from pagewise.host.slot import EngineDied
from pagewise.jobs.base import JobAnswer, JobFailed, JobProgress
from pagewise.jobs.plan import RAM, MakePlan, Planned
from pagewise.messages import EngineHello, Finished, Loaded, Stop, Tokens
from pagewise.profiles.learned import learned_file, model_key, read_learned
from pagewise.settings import Profile


@pytest.fixture
def plain() -> Profile:
    return Profile(name="plain", model=str(make_model()), n_ctx=512, threads=1, probe_every=0)


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


async def until(true: Callable[[], bool]) -> None:
    async def watch() -> None:
        while not true():  # noqa: ASYNC110 - files and processes send no event
            await asyncio.sleep(0.01)

    await asyncio.wait_for(watch(), PATIENCE_S)


async def test_without_a_model_an_engine_of_its_own_plans(real: Talk, plain: Profile) -> None:
    for id in (101, 102):
        real.send(MakePlan(id, plain))
        found = await real.wait(Planned)
        assert found.id == id and found.plan.fits and found.plan.devices[0].freed_bytes == 0
    assert not real.all(EngineHello), "it is not the conversation's"
    host = real.client.pid
    assert host is not None
    (engine,) = children(host)
    real.load(plain)
    await real.wait(Loaded)
    await gone(engine)
    real.send(MakePlan(103, plain))
    assert (await real.wait(Planned)).plan.devices[0].freed_bytes > 0


async def test_a_plan_waits_for_a_reply_and_does_not_disturb_it(real: Talk, plain: Profile) -> None:
    real.load(structs.replace(plain, n_ctx=4096))
    await real.wait(Loaded)
    turn = real.ask(3500)
    await real.wait(Tokens)
    for id, n_ctx in ((101, 1024), (102, 2048), (103, 4096)):
        real.send(MakePlan(id, structs.replace(plain, n_ctx=n_ctx)))
    waiting = await real.wait(JobProgress, lambda progress: progress.id == 103)
    assert waiting.phase == "waiting"
    real.send(Stop(turn))
    found = await real.wait(Planned)
    assert found.id == 103 and found.plan.n_ctx == 4096
    replaced = {event.id: event.cancelled for event in real.all(JobFailed)}
    assert replaced == {101: True, 102: True}
    finished = real.all(Finished)
    assert [(event.id, event.reason) for event in finished] == [(turn, "stopped")]
    assert real.seen.index(finished[0]) < real.seen.index(found)


async def test_a_plan_that_waits_can_be_cancelled(real: Talk, plain: Profile) -> None:
    real.load(structs.replace(plain, n_ctx=4096))
    await real.wait(Loaded)
    turn = real.ask(3500)
    await real.wait(Tokens)
    real.send(MakePlan(101, plain))
    await real.wait(JobProgress)
    real.send(Stop(101))
    assert (await real.wait(JobFailed)).cancelled
    real.send(Stop(turn))
    await real.wait(Finished)
    assert not real.all(Planned)


async def test_what_a_load_came_to_is_kept_and_told(real: Talk, plain: Profile) -> None:
    real.load(plain)
    loaded = await real.wait(Loaded)
    assert [entry.device for entry in loaded.model.planned] == [RAM]
    await until(learned_file().exists)
    key = model_key(loaded.model.path, loaded.model.file_bytes)
    assert read_learned().last(key) == loaded.model.planned
    real.send(MakePlan(101, plain))
    assert (await real.wait(Planned)).plan.last == loaded.model.planned
    real.load(structs.replace(plain, n_ctx=2048))
    later = await real.wait(Loaded)
    await until(lambda: read_learned().last(key) == later.model.planned)
    assert len(read_learned().models[key]) == 2


async def test_what_cannot_be_planned_says_why(real: Talk, plain: Profile, tmp_path: Path) -> None:
    model = tmp_path / "gone.gguf"
    shutil.copy(plain.model, model)
    mine = structs.replace(plain, model=str(model))
    real.send(MakePlan(101, mine))
    await real.wait(Planned)
    model.unlink()
    real.send(MakePlan(102, mine))
    failed = await real.wait(JobAnswer)
    assert isinstance(failed, JobFailed) and not failed.cancelled and "There is no file" in failed.failure.what
    real.send(MakePlan(103, structs.replace(plain, tensor_overrides=("ffn_(=CPU",))))
    failed = await real.wait(JobAnswer)
    assert isinstance(failed, JobFailed) and "regular expression" in failed.failure.why


class Asked:
    """A job whose engine is played by the test."""

    def __init__(self) -> None:
        self.id = 7
        self.slot = Slot(Played())
        self.idle = True
        self.phases: list[str] = []
        self.sent: list[object] = []
        self.answers: list[asyncio.Future[JobAnswer]] = []

    def is_idle(self) -> bool:
        return self.idle

    def progress(self, phase: str, done: int, total: int) -> None:
        self.phases.append(phase)

    def send(self, event: object) -> None:
        self.sent.append(event)

    def expect(self, id: int) -> asyncio.Future[JobAnswer]:
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


class Played:
    """An engine, as far as a plan meets it."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.dismissed = False
        self.refused = "it was ended by the test"
        self.end = None
        self.log = Path("engine.log")

    def send(self, command: object) -> None:
        self.asked.append(command)


class Slot:
    def __init__(self, engine: Played | None) -> None:
        self.engine = engine


STOPPED = JobFailed(7, Failure("Stopped", "", ""), cancelled=True)


async def test_a_plan_leaves_off_for_a_reply_and_is_made_after_it(plain: Profile) -> None:
    job, command = Asked(), MakePlan(7, plain)
    engine = job.slot.engine
    assert engine is not None
    task = asyncio.create_task(run(command, job))  # type: ignore[arg-type]
    await until(lambda: engine.asked == [command])
    job.idle = False
    await until(lambda: engine.asked == [command, Stop(7)])
    job.answers[0].set_result(STOPPED)
    await until(lambda: job.phases == ["waiting"])
    job.idle = True
    await until(lambda: engine.asked == [command, Stop(7), command])
    failed = JobFailed(7, Failure("what", "why", "next"))
    job.answers[1].set_result(failed)
    with pytest.raises(JobError) as caught:
        await task
    assert caught.value.failure == failed.failure


async def test_a_plan_moves_to_the_engine_that_takes_the_place(plain: Profile) -> None:
    job, command, former, next = Asked(), MakePlan(7, plain), Played(), Played()
    job.slot.engine = former
    task = asyncio.create_task(run(command, job))  # type: ignore[arg-type]
    await until(lambda: former.asked == [command])
    former.dismissed, job.slot.engine = True, next
    await until(lambda: next.asked == [command])
    task.cancel()
    await asyncio.wait([task])
    assert next.asked == [command, Stop(7)]


async def test_an_engine_that_dies_over_a_plan_is_not_asked_again(plain: Profile) -> None:
    job, command = Asked(), MakePlan(7, plain)
    former, job.slot.engine = job.slot.engine, Played()
    engine = job.slot.engine
    task = asyncio.create_task(run(command, job))  # type: ignore[arg-type]
    await until(lambda: engine.asked == [command])
    job.slot.engine = former
    with pytest.raises(EngineDied) as caught:
        await task
    assert "while it planned" in caught.value.failure.what
    assert former is not None and not former.asked

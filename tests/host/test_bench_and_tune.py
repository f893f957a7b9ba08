"""The yardstick and the tuner as jobs of a host with real engines."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.host.talk import Talk, children
from tests.synthetic import make_model

from pagewise.client import HostClient
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.bench import Bench, Benched, BenchTest
from pagewise.jobs.tune import Aim, FixKey, TakeBest, TrialEnded, Tune, Tuned
from pagewise.messages import EngineStatus, Finished, Loaded, Stop
from pagewise.settings import Profile

AIM = Aim(n_prompt=32, n_output=16, depth=32)


@pytest.fixture
def plain() -> Profile:
    return Profile(name="plain", model=str(make_model()), n_ctx=512, threads=1)


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


@contextmanager
def locked_in_ram(path: Path) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size = ctypes.c_size_t(path.stat().st_size)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        start = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, ctypes.c_long(0))
    finally:
        os.close(descriptor)
    try:
        if libc.mlock(ctypes.c_void_p(start), size):
            pytest.skip(f"this user may not lock so much memory: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        libc.munmap(ctypes.c_void_p(start), size)


async def test_two_profiles_are_measured_side_by_side(real: Talk, plain: Profile) -> None:
    other = Profile(name="other", model=plain.model, n_ctx=512, threads=2)
    tests = (BenchTest("prefill", 64), BenchTest("decode", 0, 8), BenchTest("chat", 16, 4, 32))
    real.send(Bench(7, (plain, other), tests, repetitions=2))
    done = await real.wait(Benched)
    assert [model.profile.name for model in done.models] == ["plain", "other"]
    assert [(row.model, row.test) for row in done.rows] == [(model, test) for model in (0, 1) for test in tests]
    assert {len(row.samples) for row in done.rows} == {2}
    assert done.models[0].threads == 1 and done.models[1].threads == 2


@pytest.fixture
def alone(plain: Profile, tmp_path: Path) -> Profile:
    """Of a file that no other program can have mapped."""
    return msgspec.structs.replace(plain, model=shutil.copy(plain.model, tmp_path / "alone.gguf").as_posix())


async def test_a_cold_start_is_told_apart(real: Talk, alone: Profile) -> None:
    real.send(Bench(7, (alone,), (BenchTest("decode", 0, 4),), repetitions=1, cold=True))
    done = await real.wait(Benched)
    assert done.models[0].cold_first_token_ms is not None
    assert done.models[0].cold_first_token_ms > 0


async def test_a_start_is_not_called_cold_while_the_file_cannot_leave_ram(real: Talk, plain: Profile) -> None:
    with locked_in_ram(Path(plain.model)):
        real.send(Bench(7, (plain,), (BenchTest("decode", 0, 4),), repetitions=1, cold=True))
        done = await real.wait(Benched)
    assert done.models[0].cold_first_token_ms is None
    assert any("no cold start" in note for note in done.notes)


async def test_two_profiles_of_one_file_both_start_cold(real: Talk, alone: Profile) -> None:
    other = msgspec.structs.replace(alone, name="other")
    real.send(Bench(7, (alone, other), (BenchTest("decode", 0, 4),), repetitions=1, cold=True))
    done = await real.wait(Benched)
    assert done.in_turns and all(model.cold_first_token_ms for model in done.models), done.notes


async def test_a_profile_that_fails_costs_nothing_that_was_measured(real: Talk, plain: Profile, tmp_path: Path) -> None:
    gone = Profile(name="gone", model=str(tmp_path / "gone.gguf"))
    real.send(Bench(7, (plain, gone), (BenchTest("decode", 0, 4),), repetitions=2))
    done = await real.wait(Benched)
    assert [model.profile.name for model in done.models] == ["plain"]
    assert len(done.rows) == 1 and len(done.rows[0].samples) == 2
    assert any("gone could not be measured" in note and "gone.gguf" in note for note in done.notes)


async def test_tests_beyond_the_context_are_refused_before_anything_is_measured(real: Talk, plain: Profile) -> None:
    real.send(Bench(7, (plain,), (BenchTest("decode", 0, 4), BenchTest("prefill", 8, 0, 9000)), repetitions=1))
    failure = (await real.wait(JobFailed)).failure
    assert failure.what == "pp8 @ d9000 does not fit into the context of plain"
    assert "9,008" in failure.why and "-d" in failure.next
    assert not [event for event in real.all(JobProgress) if "tg4" in event.phase]


async def test_a_model_that_is_not_there_ends_the_job_with_its_reason(real: Talk, tmp_path: Path) -> None:
    gone = Profile(name="gone", model=str(tmp_path / "gone.gguf"))
    real.send(Bench(7, (gone,), (BenchTest("decode", 0, 4),)))
    assert "gone.gguf" in (await real.wait(JobFailed)).failure.what
    real.send(Tune(8, gone, AIM))
    assert "gone.gguf" in (await real.wait(JobFailed)).failure.what


async def test_a_tune_tells_each_trial_and_keeps_it(real: Talk, plain: Profile, tmp_path: Path) -> None:
    real.send(Tune(7, plain, AIM, most_trials=3))
    done = await real.wait(Tuned)
    told = [event.trial for event in real.all(TrialEnded)]
    assert tuple(told) == done.trials
    assert told[0].outcome == "start" and told[0].tpot_ms
    assert 1 <= len(told) - 1 <= 3
    assert done.best in told
    (ledger,) = (tmp_path / "state" / "pagewise" / "tune").iterdir()
    assert len(ledger.read_bytes().splitlines()) == len(told) - 1


async def test_a_tune_can_be_ended_early_with_the_best_so_far(real: Talk, plain: Profile) -> None:
    real.send(Tune(7, plain, AIM, most_trials=100))
    await real.wait(TrialEnded)
    real.send(FixKey(7, "threads"))
    real.send(TakeBest(7))
    done = await real.wait(Tuned)
    assert len(done.trials) <= 3


async def test_stopping_a_tune_leaves_no_engine(real: Talk, plain: Profile) -> None:
    real.send(Tune(7, plain, AIM))
    await real.wait(TrialEnded)
    real.send(Stop(7))
    failed = await real.wait(JobFailed)
    assert failed.cancelled
    assert real.client.pid is not None and children(real.client.pid) == []


async def test_what_is_fixed_is_not_touched(real: Talk, plain: Profile) -> None:
    keys = tuple(key for key in Profile.__struct_fields__ if key != "flash_attention")
    real.send(Tune(7, plain, AIM, fixed=keys))
    done = await real.wait(Tuned)
    assert all("flash_attention" in " ".join(trial.changes) for trial in done.trials[1:])


async def test_a_tune_in_place_keeps_model_and_conversation(real: Talk, plain: Profile) -> None:
    real.load(plain)
    loaded = await real.wait(Loaded)
    first = real.ask(8)
    before = await real.wait(Finished, lambda event: event.id == first)
    pid = (await real.wait(EngineStatus, lambda event: event.state == "ready")).pid
    real.send(Tune(70, plain, Aim(n_prompt=16, n_output=8, depth=0), most_trials=3, in_place=True, fresh=True))
    done = await real.wait(Tuned)
    assert done.id == 70
    assert not any("load_mode" in change for trial in done.trials for change in trial.changes)
    again = real.ask(8)
    after = await real.wait(Finished, lambda event: event.id == again)
    assert before.timing is not None and after.timing is not None
    assert after.timing.n_reused == before.timing.n_prompt - 1
    assert [event.pid for event in real.all(EngineStatus) if event.pid is not None].count(pid) >= 1
    assert loaded.model.path == plain.model
    assert len(real.all(Loaded)) == 1


async def test_a_message_ends_a_tune_in_place_at_once(real: Talk, plain: Profile) -> None:
    real.load(plain)
    await real.wait(Loaded)
    real.send(Tune(70, plain, Aim(n_prompt=16, n_output=200, depth=0), most_trials=50, in_place=True, fresh=True))
    await real.wait(TrialEnded)
    turn = real.ask(4)
    failed = await real.wait(JobFailed)
    assert failed.id == 70 and failed.cancelled
    assert (await real.wait(Finished, lambda event: event.id == turn)).reason == "length"

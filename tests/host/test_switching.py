"""Switches with scripted engines: memory that comes back or does not, models held beside, memory given back."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.host import fake_device
from tests.host.talk import SCRIPTED, Talk, gone, is_alive, profile

from pagewise.client import HostClient
from pagewise.messages import EngineStatus, Finished, Loaded, LoadFailed, LoadProgress, Release, Stop
from pagewise.settings import Profile, Sampling


async def held(talk: Talk, name: str) -> int:
    """Wait until this profile is in force; its engine's process."""
    status = await talk.wait(EngineStatus, lambda status: status.state == "ready" and status.profile == name)
    assert status.pid is not None
    return status.pid


async def bring(talk: Talk, wanted: Profile) -> tuple[Loaded, int]:
    talk.load(wanted)
    return await talk.wait(Loaded), await held(talk, wanted.name)


# ---- memory of a device ----------------------------------------------------------------------------------------------


@pytest.fixture
async def on_device(own_folders: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Talk]:
    """A host with scripted engines and a device of 10 GiB."""
    monkeypatch.setenv("FAKE_DEVICE", str(tmp_path / "device"))
    async with Talk(HostClient(SCRIPTED)) as talk:
        yield talk


async def test_memory_that_comes_back_is_used_by_the_same_process(on_device: Talk) -> None:
    _, pid = await bring(on_device, profile("good", "gib:6"))
    done, after = await bring(on_device, profile("better", "gib:7"))
    assert (done.change, after) == ("model", pid)
    assert done.free_ms > 0 and done.wait_ms > 0 and done.total_ms > done.free_ms + done.wait_ms
    phases = [progress.phase for progress in on_device.all(LoadProgress) if progress.id == done.id]
    assert list(dict.fromkeys(phases)) == ["free", "wait", "weights"]
    assert fake_device.held() == (7 << 30, 0)


async def test_memory_that_does_not_come_back_makes_it_a_new_process(on_device: Talk) -> None:
    _, pid = await bring(on_device, profile("good", "gib:6", "sticky"))
    done, after = await bring(on_device, profile("better", "gib:7"))
    assert done.change == "process" and after != pid
    await gone(pid)
    assert fake_device.held() == (7 << 30, 0)


async def test_memory_that_somebody_else_took_brings_the_former_model_back(on_device: Talk) -> None:
    await bring(on_device, profile("good", "gib:4"))
    load = on_device.load(profile("better", "gib:8", "robbed:3"))
    failed = await on_device.wait(LoadFailed)
    assert (failed.id, failed.restored) == (load, "good") and "full" in failed.failure.why
    await held(on_device, "good")
    on_device.ask()
    assert (await on_device.wait(Finished)).reason == "length"


async def test_memory_that_somebody_else_took_all_of_leaves_nothing_and_says_so(on_device: Talk) -> None:
    await bring(on_device, profile("good", "gib:4"))
    on_device.load(profile("better", "gib:8", "robbed:4"))
    failed = await on_device.wait(LoadFailed)
    # The robber came twice: the load was tried once more in a new process.
    assert failed.restored is None and "good, did not load again" in failed.failure.next
    assert (await on_device.wait(EngineStatus, lambda status: status.state == "none")).pid is None
    fake_device.change(others=-(8 << 30))
    on_device.ask()
    assert (await on_device.wait(Loaded)).profile.name == "good"


@pytest.mark.parametrize("phase", ["free", "wait"])
async def test_a_switch_is_cancelled_between_two_steps(on_device: Talk, phase: str) -> None:
    await bring(on_device, profile("good", "gib:6", "sticky"))
    load = on_device.load(profile("better", "gib:7"))
    await on_device.wait(LoadProgress, lambda progress: progress.phase == phase)
    on_device.send(Stop(load))
    failed = await on_device.wait(LoadFailed)
    assert (failed.id, failed.cancelled, failed.restored) == (load, True, "good")
    await held(on_device, "good")
    assert fake_device.held() == (6 << 30, 0)


async def test_a_kept_model_gives_way_where_both_do_not_fit(on_device: Talk) -> None:
    _, pid = await bring(on_device, profile("good", "gib:6", keep=True))
    on_device.load(profile("better", "gib:6"))
    assert (await on_device.wait(Loaded)).profile.name == "better"
    status = await on_device.wait(EngineStatus, lambda status: status.state == "ready")
    assert status.pid == pid and status.kept == ()
    assert "good is no longer held" in status.why
    assert fake_device.held() == (6 << 30, 0)


async def test_models_kept_before_give_way_to_one_that_needs_their_room(on_device: Talk) -> None:
    await bring(on_device, profile("first", "gib:4", keep=True))
    await bring(on_device, profile("second", "gib:4"))
    on_device.load(profile("third", "gib:8"))
    assert (await on_device.wait(Loaded)).profile.name == "third"
    status = await on_device.wait(EngineStatus, lambda status: status.state == "ready")
    assert status.kept == () and "first is no longer held" in status.why


# ---- models held beside ----------------------------------------------------------------------------------------------


async def test_switching_back_to_a_kept_model_loads_nothing(talk: Talk) -> None:
    good = profile("good", keep=True)
    _, first = await bring(talk, good)
    done, second = await bring(talk, profile("other"))
    assert done.change == "process" and second != first
    assert talk.all(EngineStatus)[-1].kept == ("good",)
    before = len(talk.all(LoadProgress))
    back, pid = await bring(talk, good)
    assert (back.change, pid, back.model.path) == ("held", first, good.model)
    assert len(talk.all(LoadProgress)) == before
    await gone(second)
    talk.ask()
    assert (await talk.wait(Finished)).reason == "length"


async def test_two_kept_models_take_turns(talk: Talk) -> None:
    one, two = profile("one", keep=True), profile("two", keep=True)
    pids = [(await bring(talk, wanted))[1] for wanted in (one, two)]
    assert [(await bring(talk, wanted))[1] for wanted in (one, two, one)] == [pids[0], pids[1], pids[0]]
    assert [done.change for done in talk.all(Loaded)] == ["process", "process", "held", "held", "held"]


@pytest.mark.parametrize(
    ("keys", "change"), [({"sampling": Sampling(temperature=0.1)}, "held"), ({"n_ctx": 512}, "context")]
)
async def test_a_kept_model_is_taken_up_by_another_profile_of_it(
    talk: Talk, keys: dict[str, object], change: str
) -> None:
    _, first = await bring(talk, profile("good", keep=True))
    await bring(talk, profile("other"))
    done, pid = await bring(talk, profile("good", keep=True, **keys))
    assert (done.change, pid) == (change, first)


async def test_another_way_to_load_the_same_file_takes_the_place_of_a_kept_one(talk: Talk) -> None:
    _, first = await bring(talk, profile("good", keep=True))
    done, pid = await bring(talk, profile("good", keep=True, n_gpu_layers=0))
    assert (done.change, pid) == ("model", first) and talk.all(EngineStatus)[-1].kept == ()


@pytest.mark.parametrize("word", ["refuses", "keeps", "dies"])
async def test_a_load_that_fails_beside_a_kept_model_leaves_that_in_force(talk: Talk, word: str) -> None:
    await bring(talk, profile("good", keep=True))
    load = talk.load(profile("bad", word))
    failed = await talk.wait(LoadFailed)
    assert (failed.id, failed.restored) == (load, "good")
    await held(talk, "good")
    assert talk.all(EngineStatus)[-1].kept == ()
    talk.ask()
    assert (await talk.wait(Finished)).reason == "length"


async def test_a_load_beside_a_kept_model_is_cancelled_at_no_cost(talk: Talk) -> None:
    _, pid = await bring(talk, profile("good", keep=True))
    load = talk.load(profile("slow", "hangs"))
    await talk.wait(LoadProgress, lambda progress: progress.phase == "weights")
    talk.send(Stop(load))
    failed = await talk.wait(LoadFailed)
    assert (failed.cancelled, failed.restored) == (True, "good")
    assert await held(talk, "good") == pid
    assert [done.profile.name for done in talk.all(Loaded)] == ["good"]


async def test_a_kept_engine_that_ends_by_itself_is_told_of_and_loaded_anew(talk: Talk) -> None:
    good = profile("good", keep=True)
    _, first = await bring(talk, good)
    _, second = await bring(talk, profile("other"))
    os.kill(first, signal.SIGKILL)
    status = await talk.wait(EngineStatus, lambda status: bool(status.why))
    assert "good is no longer held" in status.why and status.kept == () and status.pid == second
    done, pid = await bring(talk, good)
    assert done.change == "model" and pid == second


async def test_no_kept_engine_outlives_its_host(talk: Talk) -> None:
    _, first = await bring(talk, profile("good", keep=True))
    _, second = await bring(talk, profile("other"))
    assert is_alive(first) and is_alive(second)
    await talk.client.close()
    await gone(first, second)


async def test_short_memory_ends_what_is_kept_and_not_what_is_in_force(
    own_folders: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "short"
    monkeypatch.setenv("FAKE_PRESSURE", str(short))
    async with Talk(HostClient(SCRIPTED)) as talk:
        _, first = await bring(talk, profile("good", keep=True))
        _, second = await bring(talk, profile("other"))
        short.touch()
        status = await talk.wait(EngineStatus, lambda status: bool(status.why))
        assert "good is no longer held: only 0.0 GiB of RAM" in status.why
        assert (status.state, status.pid, status.kept) == ("ready", second, ())
        await gone(first)


# ---- memory given back -----------------------------------------------------------------------------------------------


async def test_release_lets_go_of_kept_models_too(talk: Talk) -> None:
    pids = [(await bring(talk, profile(name, keep=True)))[1] for name in ("one", "two")]
    talk.send(Release())
    status = await talk.wait(EngineStatus, lambda status: status.state == "released")
    assert (status.pid, status.kept, status.why, status.profile) == (None, (), "", "two")
    await gone(*pids)


async def test_a_model_that_nobody_uses_is_let_go_of_and_comes_back_with_the_next_question(talk: Talk) -> None:
    _, pid = await bring(talk, profile("good", idle_unload="1s"))
    status = await talk.wait(EngineStatus, lambda status: status.state == "released")
    assert "1s without use" in status.why
    await gone(pid)
    talk.ask()
    assert (await talk.wait(Loaded)).profile.name == "good"
    assert (await talk.wait(Finished)).reason == "length"


async def test_a_reply_is_use(talk: Talk) -> None:
    await bring(talk, profile("good", idle_unload="1s"))
    turn = talk.ask(1500)
    finished = await talk.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "length")
    assert "released" not in [status.state for status in talk.all(EngineStatus)[:-1]]


async def test_a_kept_model_that_nobody_uses_is_let_go_of(talk: Talk) -> None:
    _, first = await bring(talk, profile("good", keep=True, idle_unload="1s"))
    _, second = await bring(talk, profile("other"))
    status = await talk.wait(EngineStatus, lambda status: bool(status.why))
    assert "good is no longer held: 1s without use" in status.why and status.pid == second
    await gone(first)

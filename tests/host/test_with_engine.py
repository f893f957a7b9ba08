"""The host with a real engine and a model of random weights."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
from tests.host.talk import Talk, children, gone
from tests.synthetic import make_model

from pagewise.client import HostClient
from pagewise.messages import (
    EngineLost,
    EngineStatus,
    Finished,
    Judged,
    Layers,
    Loaded,
    LoadFailed,
    Reading,
    SetRate,
    Stop,
    Tokens,
)
from pagewise.settings import Profile


@pytest.fixture
def plain() -> Profile:
    return Profile(name="plain", model=str(make_model()), n_ctx=512, threads=1, probe_every=4)


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        talk.send(SetRate(10))
        yield talk


async def test_a_conversation_beside_its_gauges(real: Talk, plain: Profile) -> None:
    real.load(plain)
    done = await real.wait(Loaded)
    turn = real.ask(24)
    finished = await real.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "length")
    assert finished.timing is not None and finished.timing.n_output == 24
    assert len(real.all(Tokens)) >= 24 and real.all(Layers)
    assert (await real.wait(Judged)).id == turn
    reading = await real.wait(Reading, lambda reading: reading.snapshot.residency is not None)
    residency = reading.snapshot.residency
    assert residency is not None and residency.path == done.model.path
    assert residency.file_bytes == done.model.file_bytes
    assert [layer.name for layer in residency.layers] == ["input", "0", "1", "2", "3", "output"]
    placed = {layer.name: layer.where for layer in done.model.placement}
    later = await real.wait(Reading, lambda reading: bool(reading.snapshot.residency))
    assert later.snapshot.residency is not None
    assert {layer.name: layer.where for layer in later.snapshot.residency.layers} == placed
    assert later.snapshot.memory.engine_rss_bytes is not None


async def test_switches_of_every_class_and_a_file_that_is_not_there(real: Talk, plain: Profile) -> None:
    import msgspec

    def with_keys(**keys: object) -> Profile:
        return msgspec.structs.replace(plain, **keys)

    real.load(plain)
    await real.wait(Loaded)
    for change, other in (
        ("live", with_keys(probe_every=0)),
        ("context", with_keys(probe_every=0, n_ctx=256)),
        ("model", with_keys(model=str(make_model(n_layer=2)))),
    ):
        real.load(other)
        done = await real.wait(Loaded)
        assert done.change == change
        real.ask(4)
        assert (await real.wait(Finished)).reason == "length"
    load = real.load(with_keys(name="none", model="/nowhere/model.gguf"))
    failed = await real.wait(LoadFailed)
    assert (failed.id, failed.restored) == (load, "plain")
    real.ask(4)
    assert (await real.wait(Finished)).reason == "length"


async def test_killed_in_mid_reply_it_comes_back_and_goes_on(real: Talk, plain: Profile) -> None:
    real.load(plain)
    pid = (await real.wait(EngineStatus, lambda status: status.state == "ready")).pid
    assert pid is not None
    helpers = children(pid)
    real.ask(400)
    await real.wait(Tokens)
    os.kill(pid, signal.SIGKILL)
    assert (await real.wait(Finished)).reason == "engine lost"
    assert (await real.wait(EngineLost)).signal == signal.SIGKILL
    await gone(pid, *helpers)
    assert (await real.wait(Loaded)).profile == plain
    real.ask(4)
    assert (await real.wait(Finished)).reason == "length"


async def test_a_reply_is_stopped(real: Talk, plain: Profile) -> None:
    real.load(plain)
    await real.wait(Loaded)
    turn = real.ask(400)
    await real.wait(Tokens)
    real.send(Stop(turn))
    assert (await real.wait(Finished)).reason == "stopped"


async def test_no_real_engine_outlives_its_host(real: Talk, plain: Profile) -> None:
    real.load(plain)
    pid = (await real.wait(EngineStatus, lambda status: status.state == "ready")).pid
    assert pid is not None and real.client.pid is not None
    processes = [pid, *children(pid)]
    real.ask(400)
    await real.wait(Tokens)
    os.kill(real.client.pid, signal.SIGKILL)
    await gone(*processes)

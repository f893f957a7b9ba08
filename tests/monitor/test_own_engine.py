"""A real host with a real engine, and a monitor beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.host.talk import Talk
from tests.monitor import samples, test_rights
from tests.monitor.holder import held_by
from tests.synthetic import make_model

from pagewise.app.monitor import focus
from pagewise.app.monitor.strip import draw_model
from pagewise.app.monitor.watched import Watched
from pagewise.client import HostClient
from pagewise.commands.monitor_table import table
from pagewise.host import readings_socket
from pagewise.host.readings_socket import ReadingsSocket
from pagewise.messages import EngineStatus, Finished, Judged, Loaded, Monitor, Monitored, Tokens
from pagewise.monitor import own_engine
from pagewise.monitor.choice import Choice
from pagewise.monitor.exposition import exposition
from pagewise.monitor.processes import Finder
from pagewise.monitor.watch import Watch
from pagewise.readings import EngineReadings, MonitorSample, WatchedModel
from pagewise.runtime_folder import make_runtime_folder, runtime_folder
from pagewise.settings import Profile

NAMES = ("input", "0", "1", "2", "3", "output")


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of the test's own, whose name is short enough for a socket."""
    for name in ("STATE", "CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    folder = Path("/tmp") / f"pw-{os.getpid()}-{os.urandom(3).hex()}"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def talk(runtime: Path) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as conversation:
        yield conversation


@pytest.fixture
def plain() -> Profile:
    return Profile(name="plain", model=str(make_model()), n_ctx=1024, threads=1, probe_every=4)


@contextlib.contextmanager
def watching(pid: int) -> Iterator[Watch]:
    watch = Watch(Choice(pid=pid))
    try:
        yield watch
    finally:
        watch.close()


async def loaded(talk: Talk, profile: Profile) -> int:
    """The engine's process, with a model in it."""
    talk.load(profile)
    await talk.wait(Loaded)
    status = await talk.wait(EngineStatus, lambda status: status.state == "ready")
    assert status.pid is not None
    return status.pid


async def sampled(watch: Watch, wanted: Callable[[WatchedModel], bool]) -> tuple[WatchedModel, MonitorSample]:
    """The first sample that is wanted; the monitor reads in a thread, as it does in an app."""

    async def found() -> tuple[WatchedModel, MonitorSample]:
        while True:
            sample = await asyncio.to_thread(watch.sample)
            (model,) = sample.models
            if wanted(model):
                return model, sample
            own_engine_may_be_asked_again(watch)
            await asyncio.sleep(0.02)

    return await asyncio.wait_for(found(), 30)


async def socket_in(folder: Path) -> Path:
    """The host's socket, once it is there."""

    async def found() -> Path:
        while not (paths := list(folder.glob("host-*.sock"))):  # noqa: ASYNC110, ASYNC240 - a folder sends no event
            await asyncio.sleep(0.01)
        return paths[0]

    return await asyncio.wait_for(found(), 20)


def own_engine_may_be_asked_again(watch: Watch) -> None:
    watch._own._refused.clear()


def why(model: WatchedModel) -> str:
    return next(entry.why for entry in model.missing if entry.metric == "engine")


async def test_another_terminal_sees_what_only_the_engine_knows(talk: Talk, plain: Profile) -> None:
    pid = await loaded(talk, plain)
    with watching(pid) as watch:
        before, _ = await sampled(watch, lambda model: model.engine is not None)
        talk.ask(40)
        finished = await talk.wait(Finished)
        judged = await talk.wait(Judged)
        after, sample = await sampled(watch, lambda model: model.engine is not None and model.engine.state == "ready")
    assert before.engine is not None and before.decode_rate == 0
    assert (before.engine.n_output, before.engine.tpot_ms, before.engine.clock) == (0, None, None)
    assert {entry.metric for entry in before.engine.missing} == {"clock", "decode_rate"}
    timing, engine = finished.timing, after.engine
    assert timing is not None and engine is not None and engine.clock is not None
    assert (engine.pid, engine.profile, engine.n_ctx, engine.n_output) == (pid, "plain", 1024, 40)
    assert (engine.tpot_ms, engine.ttft_ms, engine.kv_used) == (timing.tpot_ms, timing.ttft_ms, timing.kv_used)
    assert engine.itl_p95_ms == timing.itl_percentile(95)
    assert engine.clock.names == NAMES and sum(engine.clock.ms) == pytest.approx(engine.clock.total_ms)
    assert after.verdict == judged.verdict
    assert not [entry for entry in after.missing if entry.metric in ("engine", "server", "verdict")]
    assert {layer.where for layer in after.residency[0].layers} == {layer.where for layer in engine.placement}
    assert msgspec.json.decode(msgspec.json.encode(sample), type=MonitorSample) == sample
    shown = "\n".join(table(sample))
    assert "its last reply: TTFT" in shown and "slowest layers" in shown
    assert f'pagewise_layer_seconds{{pid="{pid}"' in exposition(sample)


async def test_a_turn_in_hand_is_told_while_it_runs(talk: Talk, plain: Profile) -> None:
    pid = await loaded(talk, plain)
    with watching(pid) as watch:
        talk.ask(900)
        await talk.wait(Tokens, lambda tokens: tokens.n_output >= 20)
        model, _ = await sampled(watch, lambda model: model.engine is not None and model.engine.tpot_ms is not None)
        engine = model.engine
        assert engine is not None and engine.generating and engine.n_output >= 20
        assert engine.decode_rate is not None and model.decode_rate == engine.decode_rate > 0
        first = next(event for event in talk.seen if isinstance(event, Tokens))
        assert engine.ttft_ms == first.step_ms
        assert engine.kv_used is not None and engine.kv_used >= 20


async def test_the_apps_own_monitor_needs_no_socket(talk: Talk, plain: Profile, runtime: Path) -> None:
    pid = await loaded(talk, plain)
    talk.ask(20)
    await talk.wait(Judged)
    (await socket_in(runtime / "pagewise")).unlink()
    talk.send(Monitor(0.1, pid=pid))
    sample = (await talk.wait(Monitored)).sample
    engine = sample.models[0].engine
    assert engine is not None and engine.clock is not None and engine.n_output == 20
    talk.send(Monitor(0.0))


async def test_the_socket_is_its_users_alone_and_goes_with_its_host(plain: Profile, runtime: Path) -> None:
    async with Talk(HostClient()) as talk:
        await loaded(talk, plain)
        path = await socket_in(runtime / "pagewise")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list((runtime / "pagewise").iterdir()) == []


async def test_without_a_socket_the_reason_says_what_to_do(talk: Talk, plain: Profile, runtime: Path) -> None:
    (runtime / "pagewise").mkdir(mode=0o755)
    pid = await loaded(talk, plain)
    with watching(pid) as watch:
        model, _ = await sampled(watch, lambda model: True)
    assert model.engine is None
    assert "F5" in why(model)


def test_a_program_of_others_says_how_layers_can_be_timed() -> None:
    with held_by("map", make_model()) as process, watching(process.pid) as watch:
        (model,) = watch.sample().models
    assert model.engine is None
    assert "pagewise --model" in why(model)


def test_an_engine_that_does_not_answer_is_left_alone_for_a_while(runtime: Path) -> None:
    """A host that is stopped: its socket takes the connection, and nothing comes."""
    program = runtime / "host.py"
    program.write_text(
        "import socket,subprocess,sys,time\n"
        "s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)\n"
        "p=subprocess.Popen(['pagewise','-c','import sys;print(1,flush=True);sys.stdin.read()',"
        "'pagewise.engine'],executable=sys.executable,stdin=subprocess.PIPE)\n"
        "print(p.pid,flush=True); sys.stdin.read()\n"
    )
    host = subprocess.Popen(
        [sys.executable, str(program), str(runtime / "host-1-a.sock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdin is not None and host.stdout is not None
    with host, contextlib.closing(host.stdin):
        pid = max(int(host.stdout.readline()) for _ in range(2))
        engines = own_engine.OwnEngines()
        (found,) = Finder(pid).look().found
        assert "does not answer" in getattr(engines.read(found), "why", "")
        assert found.id in engines._refused
        asked = engines._asked
        engines._asked = lambda found: pytest.fail("it was asked again at once")  # type: ignore[method-assign]
        assert "does not answer" in getattr(engines.read(found), "why", "")
        engines._asked = asked  # type: ignore[method-assign]
        engines.forget(found.id)
        assert engines._refused == {}


def test_what_is_no_answer_of_a_host_is_no_reading(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = runtime / "host-1-b.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(4)

        def answer(data: bytes) -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(data)

        for data, words in ((b"", ""), (b"\xc1", ""), (bytes(own_engine._MOST_BYTES + 1), "come to an end")):
            thread = threading.Thread(target=answer, args=(data,))
            thread.start()
            if words:
                with pytest.raises(own_engine._Refused, match=words):
                    own_engine._told(str(path), os.getpid())
            else:
                assert own_engine._told(str(path), os.getpid()) == data
            thread.join()
        # Whoever else listens there is not the host.
        with pytest.raises(own_engine._Refused):
            own_engine._told(str(path), os.getpid() + 1)


async def test_sockets_of_hosts_that_were_killed_are_swept(runtime: Path) -> None:
    folder = make_runtime_folder()
    dead, alive = folder / "host-7-dead.sock", folder / "host-7-live.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(dead))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(alive))
        other.listen(1)
        told = ReadingsSocket(lambda: None)
        told.open()
        await told.close()
        assert list(folder.iterdir()) == [alive]


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv for another user")
async def test_another_user_is_told_nothing(runtime: Path) -> None:
    """Even where the folder lets him in."""
    readings = EngineReadings(
        pid=1, state="ready", profile="", model="", n_ctx=1, kv_used=None, n_output=0, decode_rate=None, tpot_ms=None,
        ttft_ms=None, itl_p95_ms=None, prefill_rate=None, probe_every=0, probe_cost_pct=None, clock=None,
        clock_age_s=None, placement=(), verdict=None,
    )  # fmt: skip
    told = ReadingsSocket(lambda: readings)
    told.open()
    assert told._opening is not None
    await told._opening
    (path,) = (runtime / "pagewise").iterdir()
    for opened in (runtime, path.parent, path):
        opened.chmod(0o777)
    program = "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);print(len(s.recv(9999)))"

    async def heard(*prefix: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *prefix, sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
        )
        return int((await process.communicate())[0])

    assert await heard() > 0
    assert await heard("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") == 0
    await told.close()


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv for another user")
async def test_the_monitor_of_another_user_names_the_right(talk: Talk, plain: Profile) -> None:
    pid = await loaded(talk, plain)
    model = await asyncio.to_thread(test_rights.watched, pid)
    assert model.engine is None and model.rss_bytes is not None
    assert "to its own user and to root alone" in why(model)


def test_a_folder_that_others_may_enter_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "pagewise").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="this user alone"):
        make_runtime_folder()
    (runtime / "pagewise").rmdir()
    (runtime / "pagewise").symlink_to(runtime)
    with pytest.raises(PermissionError):
        make_runtime_folder()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(os.getuid()) in str(runtime_folder())


def test_the_engine_in_focus_shows_its_layers_and_tokens() -> None:
    model = samples.own()
    sample = samples.sample(model)
    watched = Watched()
    watched.take(model, sample)
    drawn = "\n".join("".join(text for text, _ in line) for line in focus.draw_gauges(watched, 60, 40))
    assert "ENGINE" in drawn and "LAYERS" in drawn and "SERVER" not in drawn
    assert "TPOT 23.5 ms" in drawn and "312 / 4 096 tokens" in drawn
    history = ["".join(text for text, _ in line) for line in focus.draw_history(watched, 60, 60)]
    assert "token 34" in history[0]
    assert history[1].endswith("0.40 ms") and history[-2].endswith("1.20 ms")
    assert len(watched.readout.clocks) == 1
    watched.take(model, sample)
    assert len(watched.readout.clocks) == 1
    said = "\n".join("".join(text for text, _ in line) for line in focus.draw_reasons(watched, 100))
    assert "told by its host" in said and "Slowest: " in said
    strip = "".join(text for text, _ in draw_model(model, 200))
    assert "42.5 tok/s" in strip and "80.0 ms" in strip and "7.6 %" in strip


def test_the_socket_is_for_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings_socket.sys, "platform", "darwin")
    told = ReadingsSocket(lambda: None)
    told.open()
    assert told._opening is None

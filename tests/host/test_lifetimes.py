"""Who ends with whom: no host and no engine may outlive its app."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.host.talk import PATIENCE_S, SCRIPTED, Talk, children, gone, is_alive, profile

from pagewise.client import HostClient
from pagewise.host.session import Session
from pagewise.messages import EngineLost, EngineStatus, Loaded, Tokens

_APP = """
import asyncio, sys
from pagewise.client import HostClient
from pagewise.messages import *
from pagewise.settings import Profile, Sampling

async def main():
    client = HostClient(sys.argv[1:])
    await client.start()
    client.send(Load(1, Profile(name="good", model="/nowhere")))
    async for event in client.events():
        if isinstance(event, Loaded):
            client.send(Generate(2, (ChatMessage("user", "hello"),), Sampling(max_tokens=10_000_000)))
        if isinstance(event, EngineStatus) and event.state == "generating":
            print(client.pid, event.pid, flush=True)

asyncio.run(main())
"""


async def test_nothing_outlives_an_app_that_is_killed_in_mid_reply(own_folders: None) -> None:
    app = await asyncio.create_subprocess_exec(sys.executable, "-c", _APP, *SCRIPTED, stdout=asyncio.subprocess.PIPE)
    assert app.stdout is not None
    host, engine = map(int, (await app.stdout.readline()).split())
    assert is_alive(host) and is_alive(engine)
    app.kill()
    await app.wait()
    await gone(host, engine)


async def test_no_engine_outlives_a_host_that_is_killed(talk: Talk) -> None:
    """The scripted engine does not ask the kernel for it: the closed pipe alone must do."""
    talk.load(profile("good"))
    engine = (await talk.wait(EngineStatus, lambda status: status.state == "ready")).pid
    talk.ask(10_000_000)
    await talk.wait(Tokens)
    assert talk.client.pid is not None and engine is not None
    os.kill(talk.client.pid, signal.SIGKILL)
    await gone(engine)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_host_that_is_told_to_end_takes_its_engine_along(talk: Talk, number: int) -> None:
    talk.load(profile("good"))
    engine = (await talk.wait(EngineStatus, lambda status: status.state == "ready")).pid
    host = talk.client.pid
    assert host is not None and engine is not None
    os.kill(host, number)
    await gone(host, engine)


async def test_close_ends_host_and_engine_in_mid_reply(own_folders: None) -> None:
    client = HostClient(SCRIPTED)
    async with Talk(client) as talk:
        talk.load(profile("good"))
        engine = (await talk.wait(EngineStatus, lambda status: status.state == "ready")).pid
        talk.ask(10_000_000)
        await talk.wait(Tokens)
        host = client.pid
    assert host is not None and engine is not None
    await gone(host, engine)
    await client.close()


async def test_a_job_that_does_not_end_keeps_no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pagewise.host.session._JOBS_S", 0.01)
    outlet: Any = SimpleNamespace(send=lambda event: None, waiting=0, flowing=True)
    session = Session(outlet, SCRIPTED, tmp_path / "log", asyncio.Event())
    ended: list[bool] = []

    async def never() -> None:
        await asyncio.Event().wait()

    async def end() -> None:
        ended.append(True)

    monkeypatch.setattr(session._jobs, "close", never)
    monkeypatch.setattr(session._slot, "end", end)
    await asyncio.wait_for(session.close(), PATIENCE_S)
    assert ended


async def test_what_an_engine_leaves_behind_in_its_group_ends_with_it(tmp_path: Path, own_folders: None) -> None:
    helper = tmp_path / "helper"
    engine = (
        "import os, runpy, subprocess, sys\n"
        f"open({str(helper)!r}, 'w').write(str(subprocess.Popen(['sleep', '1000']).pid))\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"runpy.run_path({str(Path(__file__).with_name('fake_engine.py'))!r}, run_name='__main__')\n"
    )
    host = f"import sys; from pagewise.host.main import main; main((sys.executable, '-c', {engine!r}))"
    async with Talk(HostClient((sys.executable, "-c", host))) as talk:
        talk.load(profile("good"))
        pid = (await talk.wait(EngineStatus, lambda status: status.state == "ready")).pid
        assert pid is not None
        left = int(helper.read_text())
        assert is_alive(left)
        os.kill(pid, signal.SIGKILL)
        await talk.wait(EngineLost)
        await gone(left)


async def test_the_keyboard_of_the_terminal_is_not_for_the_host(talk: Talk) -> None:
    talk.load(profile("good"))
    engine = (await talk.wait(EngineStatus, lambda status: status.state == "ready")).pid
    host = talk.client.pid
    assert host is not None and engine is not None
    groups = {os.getpgid(pid) for pid in (os.getpid(), host, engine)}
    assert len(groups) == 3
    assert children(host) == [engine]


def test_a_host_at_a_terminal_says_what_it_is() -> None:
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, "-m", "pagewise.host"], stdin=theirs, capture_output=True, text=True)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2 and "starts it by itself" in done.stderr


def test_a_host_without_an_app_ends(own_folders: None) -> None:
    done = subprocess.run([sys.executable, "-m", "pagewise.host"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout == b""


def test_prints_never_reach_the_protocol(tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
from pathlib import Path
from pagewise.host.descriptors import take_descriptors
commands, events = take_descriptors(Path(sys.argv[1]))
print("a print", flush=True)
os.write(2, b"native code\\n")
subprocess.run(["echo", "a child"])
assert os.read(0, 10) == b""
os.write(events, b"frame:" + os.read(commands, 10))
"""
    log = tmp_path / "folder" / "log"
    done = subprocess.run([sys.executable, "-c", program, str(log)], input=b"command", capture_output=True)
    assert (done.stdout, done.stderr) == (b"frame:command", b"")
    assert log.read_text() == "a print\nnative code\na child\n"


async def test_an_engine_that_the_kernel_ends_for_memory_is_told_so(tmp_path: Path, own_folders: None) -> None:
    top = Path("/sys/fs/cgroup/memory")
    if not (top / "memory.limit_in_bytes").exists():
        pytest.skip("no version 1 memory cgroups here")
    folder = top / f"pagewise-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    engine = f"""
import runpy, sys, threading, time
def eat():
    blocks = []
    while True:
        blocks.append(bytearray(8 << 20))
        blocks[-1][::4096] = b"x" * len(blocks[-1][::4096])
open("/proc/self/oom_score_adj", "w").write("500")
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fake_engine
fake_engine.FakeEngine.generate = lambda self, request: eat()
fake_engine.FakeEngine().run()
"""
    host = f"import sys; from pagewise.host.main import main; main((sys.executable, '-c', {engine!r}))"
    enter = f'echo $$ > {folder}/cgroup.procs; exec "$@"'
    (folder / "memory.limit_in_bytes").write_text(str(192 << 20))
    try:
        async with Talk(HostClient(("sh", "-c", enter, "sh", sys.executable, "-c", host))) as talk:
            talk.load(profile("good"))
            await talk.wait(Loaded)
            talk.ask()
            lost = await talk.wait(EngineLost)
            assert (lost.signal, lost.out_of_memory) == (signal.SIGKILL, True)
            assert "ran out of memory" in lost.failure.why
            assert (await talk.wait(Loaded)).profile.name == "good"
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()

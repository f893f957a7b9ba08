"""The client against hosts that are scripts: what comes, what is dropped, what happens when a host ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.host.talk import Talk, gone

from pagewise.client import ClientError, HostClient
from pagewise.messages import (
    EngineStatus,
    Event,
    Finished,
    Generate,
    Hello,
    HostHello,
    LoadFailed,
    Notice,
    Reading,
    SetRate,
    Tokens,
)
from pagewise.settings import Profile

_SCRIPT = """
import os, sys
from pagewise.messages import *
from pagewise.readings import *

def say(*events):
    data = b"".join(map(encode, events))
    while data:
        data = data[os.write(1, data):]

def commands():
    frames = FrameReader()
    while data := os.read(0, 65536):
        for _, payload in frames.feed(data):
            yield decode_command(payload)

def hello():
    say(HostHello(PROTOCOL, "0", os.getpid(), "box", "script"))

def reading(at):
    memory = Memory(1, 1, None, None, None, None, 0, None, None)
    return Reading(Snapshot(at, None, Devices(()), memory, None, None))
"""


def script(body: str) -> tuple[str, ...]:
    return (sys.executable, "-c", _SCRIPT + body)


ECHO = script("""
for command in commands():
    match command:
        case Hello(): hello()
        case Generate(id=id): say(Finished(id, "end", None))
        case SetRate(hz=hz): say(EngineStatus("none", None, f"rate {hz}"))
        case Quit(): break
""")


async def test_it_greets_and_is_answered() -> None:
    async with Talk(HostClient(ECHO)) as talk:
        hello = await talk.wait(HostHello)
        assert hello.pid == talk.client.pid
        talk.send(Hello())
        talk.ask()
        await talk.wait(Finished)
        assert len(talk.all(HostHello)) == 1


async def test_close_is_heard_and_can_be_repeated() -> None:
    client = HostClient(ECHO)
    async with Talk(client) as talk:
        pid = (await talk.wait(HostHello)).pid
    await gone(pid)
    assert client.pid is None
    await client.close()


async def test_a_host_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagewise.client._QUIT_GRACE_S", 0.1)
    monkeypatch.setattr("pagewise.client._TERMINATE_GRACE_S", 0.1)
    deaf = script("""
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hello()
while True: time.sleep(1)
""")
    async with Talk(HostClient(deaf)) as talk:
        pid = (await talk.wait(HostHello)).pid
    await gone(pid)


async def test_readings_give_way_to_newer_ones_and_tokens_never() -> None:
    flood = script("""
hello()
for n in range(2000):
    say(reading(float(n)), Tokens(1, (n,), "x", n + 1, n, 1.0))
say(Finished(1, "end", None))
for command in commands():
    if isinstance(command, Quit): break
""")
    client = HostClient(flood)
    await client.start()
    # Nobody takes events yet: the host must be able to say all it has to say all the same.
    taken: list[Event] = []
    while not any(isinstance(event, Finished) for event in client._queue):  # noqa: ASYNC110 - what is tested is that
        await asyncio.sleep(0.01)  # nobody is listening
    async for event in client.events():
        taken.append(event)
        if isinstance(event, Finished):
            break
    await client.close()
    tokens = [event.ids[0] for event in taken if isinstance(event, Tokens)]
    readings = [event.snapshot.at_s for event in taken if isinstance(event, Reading)]
    assert tokens == list(range(2000))
    assert readings == [1999.0]


async def test_a_host_that_ends_is_told_and_started_again() -> None:
    async with Talk(HostClient(ECHO)) as talk:
        talk.send(SetRate(3.0))
        first = await talk.wait(HostHello)
        await talk.wait(EngineStatus)
        os.kill(first.pid, signal.SIGKILL)
        assert (await talk.wait(EngineStatus)).state == "lost"
        notice = await talk.wait(Notice)
        assert "signal 9" in notice.failure.why and "again" in notice.failure.next
        second = await talk.wait(HostHello)
        assert second.pid != first.pid
        # The rate that was asked for is in force there too.
        assert (await talk.wait(EngineStatus)).profile == "rate 3.0"


async def test_what_was_under_way_ends_with_the_host() -> None:
    falls = script("""
for command in commands():
    match command:
        case Hello(): hello()
        case Generate(): sys.exit("\\x1b[31mfell over")
""")
    async with Talk(HostClient(falls)) as talk:
        await talk.wait(HostHello)
        load = talk.load(Profile(name="p"))
        turn = talk.ask()
        notice = await talk.wait(Notice)
        assert 'exit code 1. Its last words: "[31mfell over"' in notice.failure.why
        finished = await talk.wait(Finished)
        assert (finished.id, finished.reason) == (turn, "engine lost")
        assert (await talk.wait(LoadFailed)).id == load


async def test_a_host_that_does_not_stay_up_is_given_up() -> None:
    dies = script("hello(); sys.exit(7)")
    async with Talk(HostClient(dies)) as talk:
        assert talk._task is not None
        await asyncio.wait_for(talk._task, 30)
        notices = talk.all(Notice)
        assert len(talk.all(HostHello)) == 3 and len(notices) == 3
        assert "does not stay up" in notices[-1].failure.next
        turn = talk.ask()
        async for event in talk.client.events():
            assert isinstance(event, Finished) and event.id == turn


async def test_a_host_that_never_was_one_is_not_tried_again() -> None:
    async with Talk(HostClient(("sh", "-c", "echo 'Permission denied (publickey).' >&2; exit 255"))) as talk:
        assert talk._task is not None
        await asyncio.wait_for(talk._task, 30)
        (notice,) = talk.all(Notice)
        assert "Permission denied (publickey)." in notice.failure.why


async def test_it_can_be_started_again_after_it_was_given_up() -> None:
    client = HostClient(("sh", "-c", "exit 1"))
    async with Talk(client) as talk:
        assert talk._task is not None
        await asyncio.wait_for(talk._task, 30)
        client._command = ECHO
        await client.start()
        async for event in client.events():
            if isinstance(event, HostHello):
                break


async def test_a_command_that_cannot_be_run() -> None:
    client = HostClient(("/nowhere/pagewise", "host"))
    with pytest.raises(ClientError) as error:
        await client.start()
    assert "/nowhere/pagewise host" in error.value.failure.why
    client.send(Generate(4, ()))
    await client.close()
    (event,) = [event async for event in client.events()]
    assert isinstance(event, Finished) and event.id == 4


async def test_what_is_no_protocol_is_told() -> None:
    async with Talk(HostClient(("echo", "Welcome to the box!"))) as talk:
        notice = await talk.wait(Notice)
        assert "cannot be understood" in notice.failure.what


async def test_standard_error_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "host.log"
    async with Talk(
        HostClient(script("hello(); print('a remark', file=sys.stderr, flush=True); list(commands())"), log)
    ):
        pass
    assert log.read_text() == "a remark\n"


def test_the_client_is_light() -> None:
    program = "import sys, pagewise.client; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "llama_cpp", "psutil", "pynvml", "textual", "platformdirs"}

"""An app that does not read: the engine is held back, nothing is lost, and the host does not grow."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.host.talk import PATIENCE_S, SCRIPTED, profile

from pagewise.instruments.procfs import parse_process_stat, parse_values
from pagewise.messages import (
    ChatMessage,
    EngineHello,
    Event,
    Finished,
    FrameReader,
    Generate,
    Hello,
    Load,
    Loaded,
    SetRate,
    Tokens,
    decode_event,
    encode,
)
from pagewise.settings import Sampling

TOKENS = 60_000


class Reader:
    """Reads events one by one, and only when it is asked to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._frames = FrameReader()
        self._events: list[Event] = []

    def next(self) -> Event:
        assert self._process.stdout is not None
        while not self._events:
            data = self._process.stdout.read1(65536)
            assert data, "the host has ended"
            self._events += [decode_event(payload) for _, payload in self._frames.feed(data)]
        return self._events.pop(0)

    def wait(self, kind: type[Event]) -> Event:
        while not isinstance(event := self.next(), kind):
            pass
        return event


def cpu_ticks(pid: int) -> int:
    return parse_process_stat(Path(f"/proc/{pid}/stat").read_text()).cpu_ticks


def wait_until_held_back(pid: int) -> None:
    """Until the process has not run for a while."""
    until = time.monotonic() + PATIENCE_S
    last, since = cpu_ticks(pid), time.monotonic()
    while time.monotonic() - since < 0.5:
        assert time.monotonic() < until, "it goes on and on"
        time.sleep(0.02)
        if (now := cpu_ticks(pid)) != last:
            last, since = now, time.monotonic()


def test_an_app_that_does_not_read(own_folders: None) -> None:
    process = subprocess.Popen(SCRIPTED, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    try:
        question = Generate(2, (ChatMessage("user", "hello"),), Sampling(max_tokens=TOKENS))
        for command in (Hello(), SetRate(10), Load(1, profile("good", "floods")), question):
            process.stdin.write(encode(command))
        process.stdin.flush()
        reader = Reader(process)
        engine = reader.wait(EngineHello)
        assert isinstance(engine, EngineHello)
        reader.wait(Loaded)
        wait_until_held_back(engine.pid)
        held = parse_values(Path(f"/proc/{process.pid}/status").read_text())["VmRSS"]
        tokens: list[int] = []
        while not isinstance(event := reader.next(), Finished):
            if isinstance(event, Tokens):
                tokens += event.ids
    finally:
        process.kill()
        process.communicate()
    assert tokens == list(range(TOKENS))
    assert event.reason == "length"
    assert held < 100 << 20

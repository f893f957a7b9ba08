"""A real engine process at the other end of two pipes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pagewise.memory_file import VARIABLE as KV_FILE
from pagewise.messages import (
    ChatMessage,
    Command,
    EngineHello,
    Event,
    Finished,
    FrameReader,
    Generate,
    Hello,
    Layers,
    Load,
    Loaded,
    LoadFailed,
    Prefill,
    Stop,
    Tokens,
    Unload,
    Unloaded,
    decode_event,
    encode,
)
from pagewise.settings import Profile, Sampling

PATIENCE_S = 120.0
GREEDY = Sampling(temperature=0.0, max_tokens=40)

E = TypeVar("E", bound=Event)


class Reply(NamedTuple):
    """All that came for one Generate."""

    finished: Finished
    tokens: list[Tokens]
    layers: list[Layers]
    prefill: list[Prefill]
    seconds_to_first: float | None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.tokens)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(id for event in self.tokens for id in event.ids)

    def message(self, vocabulary: str) -> ChatMessage:
        """The reply as a part of the next conversation."""
        return ChatMessage("assistant", self.text, self.ids, vocabulary)


class EngineProcess:
    """Starts an engine; use as a context manager. Every event that was read is kept in ``seen``."""

    def __init__(self, *, kv_file: int | None = None, **environment: str) -> None:
        """``kv_file``: descriptor of the memory file that the engine inherits."""
        if kv_file is not None:
            environment[KV_FILE] = str(kv_file)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pagewise.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            process_group=0,
            pass_fds=() if kv_file is None else (kv_file,),
        )
        self.seen: list[Event] = []
        self._frames = FrameReader()
        self._waiting: list[Event] = []
        self._id = 0

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def send(self, command: Command) -> None:
        assert self.process.stdin is not None
        data = encode(command)
        view = memoryview(data)
        while view:
            view = view[os.write(self.process.stdin.fileno(), view) :]

    def event(self) -> Event:
        """The next event. Raises EOFError at the end of the pipe."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        until = time.monotonic() + PATIENCE_S
        while not self._waiting:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("the engine said nothing for too long")
            data = os.read(descriptor, 1 << 16)
            if not data:
                raise EOFError
            self._waiting += [decode_event(payload) for _, payload in self._frames.feed(data)]
        event = self._waiting.pop(0)
        self.seen.append(event)
        return event

    def until(self, wanted: Callable[[Event], bool]) -> tuple[Event, list[Event]]:
        """The first event that is wanted, and all up to it."""
        events = []
        while True:
            events.append(self.event())
            if wanted(events[-1]):
                return events[-1], events

    def first(self, kind: type[E]) -> E:
        """The next event of this kind."""
        event, _ = self.until(lambda event: isinstance(event, kind))
        assert isinstance(event, kind)
        return event

    def hello(self) -> EngineHello:
        self.send(Hello())
        return self.first(EngineHello)

    def next_id(self) -> int:
        self._id += 1
        return self._id

    def try_load(self, profile: Profile, change: Any = "process") -> Loaded | LoadFailed:
        id = self.next_id()
        self.send(Load(id, profile, change))
        event, _ = self.until(lambda event: isinstance(event, Loaded | LoadFailed) and event.id == id)
        assert isinstance(event, Loaded | LoadFailed)
        return event

    def load(self, profile: Profile, change: Any = "process") -> Loaded:
        answer = self.try_load(profile, change)
        assert isinstance(answer, Loaded), answer
        return answer

    def unload(self, profile: Profile) -> Unloaded | LoadFailed:
        """Have it let go of its model to make room for this profile."""
        id = self.next_id()
        self.send(Unload(id, profile))
        event, _ = self.until(lambda event: isinstance(event, Unloaded | LoadFailed) and event.id == id)
        assert isinstance(event, Unloaded | LoadFailed)
        return event

    def generate(
        self,
        messages: Iterable[ChatMessage] | str,
        sampling: Sampling | None = None,
        *,
        stop_when: Callable[[Event], bool] | None = None,
    ) -> Reply:
        """The reply to a conversation (or one question); stopped at the first event that ``stop_when`` picks."""
        if isinstance(messages, str):
            messages = [ChatMessage("user", messages)]
        id = self.next_id()
        sent = time.perf_counter()
        self.send(Generate(id, tuple(messages), sampling))
        first: float | None = None
        events: list[Event] = []
        while True:
            event = self.event()
            events.append(event)
            if first is None and isinstance(event, Tokens):
                first = time.perf_counter() - sent
            if stop_when is not None and stop_when(event):
                self.send(Stop(id))
                stop_when = None
            if isinstance(event, Finished):
                assert event.id == id
                return Reply(
                    event,
                    [event for event in events if isinstance(event, Tokens)],
                    [event for event in events if isinstance(event, Layers)],
                    [event for event in events if isinstance(event, Prefill)],
                    first,
                )


def profile(model: Path | str, /, **changes: Any) -> Profile:
    """A profile for tests: greedy, short replies, one thread, weights as they are in the file."""
    settings: dict[str, Any] = {"threads": 1, "repack": "off", "sampling": GREEDY, "n_ctx": 1024, "probe_every": 0}
    return Profile(name="test", model=str(model), **(settings | changes))

"""A conversation with a host: sends commands, and waits for the events that a test is about."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pagewise.client import HostClient
from pagewise.messages import ChatMessage, Command, Event, Generate, Load
from pagewise.settings import Profile, Sampling

PATIENCE_S = 20.0
SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted_host.py")))
E = TypeVar("E", bound=Event)


class Talk:
    """Every event is kept in ``seen``; ``wait`` looks at those that no earlier ``wait`` has passed."""

    def __init__(self, client: HostClient) -> None:
        self.client = client
        self.seen: list[Event] = []
        self._next = 0
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ids = 0

    async def __aenter__(self) -> Talk:
        await self.client.start()
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        assert self._task is not None
        await self._task

    def send(self, command: Command) -> None:
        self.client.send(command)

    def load(self, profile: Profile) -> int:
        """Ask for a profile; the id of the load."""
        self._ids += 1
        self.send(Load(self._ids, profile))
        return self._ids

    def ask(self, max_tokens: int = 20) -> int:
        """Ask a question; the id of the turn."""
        self._ids += 1
        self.send(
            Generate(self._ids, (ChatMessage("user", "hello"),), Sampling(temperature=0.0, max_tokens=max_tokens))
        )
        return self._ids

    async def wait(self, kind: type[E], where: Callable[[E], bool] = lambda event: True) -> E:
        """The next event of this kind for which ``where`` holds."""

        async def found() -> E:
            while True:
                while self._next < len(self.seen):
                    event = self.seen[self._next]
                    self._next += 1
                    if isinstance(event, kind) and where(event):
                        return event
                self._arrived.clear()
                await self._arrived.wait()

        return await asyncio.wait_for(found(), PATIENCE_S)

    def all(self, kind: type[E]) -> list[E]:
        """All events of a kind so far."""
        return [event for event in self.seen if isinstance(event, kind)]

    async def _listen(self) -> None:
        async for event in self.client.events():
            self.seen.append(event)
            self._arrived.set()


def profile(name: str, *words: str, **keys: object) -> Profile:
    """A profile for the scripted engine; ``words`` say what goes wrong."""
    return Profile(name=name, description=" ".join(words), model=f"/nowhere/{name}.gguf", **keys)  # type: ignore[arg-type]


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name: state, parent, …; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process is there and is not merely waiting to be reaped."""
    return _stat(pid)[:1] not in ([], ["Z"])


async def gone(*pids: int) -> None:
    """Wait until none of these processes is there any more."""

    async def watch() -> None:
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(0.01)

    await asyncio.wait_for(watch(), PATIENCE_S)


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid``."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [other for other in pids if _stat(other)[1:2] == [str(pid)]]

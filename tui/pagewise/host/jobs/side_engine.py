"""An engine process for one job, beside that of the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pagewise.host.slot import EngineDied, lost_failure
from pagewise.host.supervise import Engine, Listeners, start_engine
from pagewise.messages import PROTOCOL, Command, EngineHello, Event, Failure, Hello, decode_event

_START_S = 120.0


class SideEngine:
    """Started, asked, listened to and ended by one job. What it says is taken by ``events``, in order."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = tuple(command)
        self._log = log
        self._engine: Engine | None = None
        self.hello: EngineHello | None = None
        """What it said of itself, once it is up."""
        self._said: asyncio.Queue[Event | EngineDied] = asyncio.Queue()

    @property
    def pid(self) -> int | None:
        """Its process while it runs."""
        return self._engine.pid if self._engine is not None else None

    async def start(self) -> None:
        """Up and greeted. Raises EngineDied."""
        listeners = Listeners(self._stream, self._event, self._exited, lambda: True, _at_once)
        try:
            self._engine = await start_engine(self._command, self._log, listeners)
        except OSError as error:
            failure = Failure("The engine cannot be started", f"The system says: {error}.", "Install pagewise again.")
            raise EngineDied(failure) from error
        self._engine.send(Hello())
        try:
            hello = await asyncio.wait_for(self.next(), _START_S)
        except asyncio.TimeoutError:
            self._engine.refuse(f"It was not ready within {_START_S:.0f} seconds of its start.")
            hello = await self.next()
        if not isinstance(hello, EngineHello) or hello.protocol != PROTOCOL:
            raise EngineDied(
                Failure(
                    "The engine cannot be used",
                    "It speaks another protocol than this host: two versions are mixed.",
                    "Install pagewise again on this machine.",
                )
            )
        self.hello = hello

    def send(self, command: Command) -> None:
        """Ask it for something."""
        if self._engine is not None:
            self._engine.send(command)

    async def next(self) -> Event:
        """The next thing it says. Raises EngineDied once it has ended by itself."""
        said = await self._said.get()
        if isinstance(said, EngineDied):
            self._said.put_nowait(said)
            raise said
        return said

    async def events(self) -> AsyncIterator[Event]:
        """What it says, until it ends by itself: then EngineDied is raised."""
        while True:
            yield await self.next()

    async def end(self) -> None:
        """End it, at once and for good."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dismiss(at_once=True)

    def _stream(self, payload: bytes) -> None:
        self._said.put_nowait(decode_event(payload))

    def _event(self, event: Event, payload: bytes) -> None:
        self._said.put_nowait(event)

    def _exited(self, engine: Engine) -> None:
        if not engine.dismissed:
            self._said.put_nowait(EngineDied(lost_failure(engine, "in the middle of its work"), engine.end))


async def _at_once() -> None:
    return

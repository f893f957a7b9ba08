"""A host that is a script: it answers commands as slowly as the test says, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

from app import scenes, scenes_profiles
from pagewise import messages
from pagewise.jobs.catalog import FindModels, ModelsFound
from pagewise.jobs.plan import MakePlan, Planned
from pagewise.messages import Command, Event, ModelInfo
from pagewise.readings import Devices
from pagewise.settings import Profile


class FakeClient:
    """``manual``: nothing happens by itself, the test says each event with ``say``. ``endless``: until stopped."""

    def __init__(
        self,
        answer: str = scenes.ANSWER,
        model: ModelInfo | None = None,
        *,
        manual: bool = False,
        token_s: float = 0.0,
        readings_hz: float = 0.0,
        devices: Devices | None = None,
        endless: bool = False,
    ) -> None:
        self.sent: list[Command] = []
        self.planned: list[Profile] = []
        self.catalog = scenes_profiles.catalog()
        self.answer = answer
        self.model = model or scenes.qwen()
        self.started = 0
        self.closed = False
        self.manual = manual
        self._token_s = token_s
        self._readings_hz = readings_hz
        self.devices = devices
        self._endless = endless
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: set[int] = set()
        self._depth = 24

    async def start(self) -> None:
        self.started += 1
        self.say(scenes.hello())
        if self._readings_hz:
            self._run(self._readings())

    def send(self, command: Command) -> None:
        self.sent.append(command)
        if isinstance(command, messages.Stop):
            self._stopped.add(command.id)
        if isinstance(command, FindModels):
            self.say(ModelsFound(command.id, self.catalog))
        elif isinstance(command, MakePlan):
            self.planned.append(command.profile)
            self.say(Planned(command.id, scenes_profiles.plan(command.profile, self.devices)))
        if self.manual:
            return
        if isinstance(command, messages.Load):
            self._run(self._load(command))
        elif isinstance(command, messages.Generate):
            self._run(self._generate(command))

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        self.closed = True
        for task in self._tasks:
            task.cancel()
        self._events.put_nowait(None)

    # ---- what a test says -------------------------------------------------------------------------------------------

    def say(self, *events: Event) -> None:
        """The host says this."""
        for event in events:
            self._events.put_nowait(event)

    def end(self) -> None:
        """The host ends by itself."""
        self._events.put_nowait(None)

    def last(self, kind: type[Command]) -> Command:
        """The last command of a kind."""
        return next(command for command in reversed(self.sent) if isinstance(command, kind))

    def loaded(self, load: messages.Load, change: messages.ChangeClass = "process") -> messages.Loaded:
        return messages.Loaded(load.id, load.profile, self.model, change, 2013.0)

    # ---- the script -------------------------------------------------------------------------------------------------

    def _run(self, coroutine) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, load: messages.Load) -> None:
        total = self.model.file_bytes
        for step in range(5):
            self.say(messages.LoadProgress(load.id, "read", total * step // 4, total))
            await asyncio.sleep(self._token_s)
        self.say(self.loaded(load, "process" if load.id == 1 else "model"))

    async def _generate(self, command: messages.Generate) -> None:
        total = 241
        self.say(messages.Prefill(command.id, 128, total, 0), messages.Prefill(command.id, total, total, 0))
        await asyncio.sleep(self._token_s)
        self._depth += total
        reason: messages.StopReason = "end"
        sent = 0
        pieces = scenes.pieces(self.answer)
        for index, piece in enumerate(itertools.cycle(pieces) if self._endless else pieces):
            if command.id in self._stopped:
                reason = "stopped"
                break
            gap = 312.0 if index == 0 else 41.0 + 6.0 * ((index * 7) % 5 - 2) / 2
            sent += 1
            self.say(messages.Tokens(command.id, (index,), piece, sent, self._depth + sent, gap))
            if index % 16 == 15:
                self.say(messages.Layers(command.id, scenes.clock(index)))
            await asyncio.sleep(self._token_s)
        self.say(
            messages.Finished(command.id, reason, scenes.timing(sent, cold=command.id == 2, depth=self._depth)),
            messages.Judged(command.id, scenes.VERDICT),
        )
        self._depth += sent

    async def _readings(self) -> None:
        tick = 0
        while True:
            wave = (0, 2, 9, 38, 60, 41, 12, 3)[tick % 8] * 1e6
            self.say(
                messages.Reading(
                    scenes.snapshot(float(tick), devices=self.devices, page_in=wave, stalls=float(tick % 3))
                )
            )
            tick += 1
            await asyncio.sleep(1 / self._readings_hz)

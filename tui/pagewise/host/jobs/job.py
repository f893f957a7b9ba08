"""One job in hand: what it can use, and how it tells of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal

from pagewise.host.jobs.side_engine import SideEngine
from pagewise.host.outlet import Outlet
from pagewise.host.slot import EngineSlot
from pagewise.jobs.base import JobAnswer, JobProgress, JobWish
from pagewise.messages import Event, Failure
from pagewise.settings import Profile

_PROGRESS_S = 0.1
Lend = Callable[[Callable[[], None]], AbstractAsyncContextManager[Profile | None]]


class JobError(Exception):
    """The job cannot be done; ``failure`` says it to a person."""

    cancelled = False
    """Whether that is because it is not wanted any more."""

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(f"{what}: {why}")
        self.failure = Failure(what, why, next)


class Job:
    """Handed to the function that does a job. It is cancelled as a task: asyncio.CancelledError is raised in it."""

    def __init__(
        self,
        id: int,
        outlet: Outlet,
        slot: EngineSlot,
        engine_command: Sequence[str],
        engine_log: Path,
        is_idle: Callable[[], bool],
        answers: dict[int, asyncio.Future[JobAnswer]],
        lend: Lend,
    ) -> None:
        """``answers``: what the engine of the conversation says to a job goes into the future under its id."""
        self.id = id
        self.lend = lend
        """The engine of the conversation for work that is neither turn nor load; see Loads."""
        self.slot = slot
        """The engine of the conversation."""
        self.is_idle = is_idle
        """Whether no turn and no load is under way."""
        self.heed: Callable[[JobWish], None] = lambda wish: None
        """What the job does with what the person wants of it meanwhile."""
        self._outlet = outlet
        self._engine_command = engine_command
        self._engine_log = engine_log
        self._answers = answers
        self._told_at = 0.0
        self._phase = ""

    def send(self, event: Event) -> None:
        """Tell the app."""
        self._outlet.send(event)

    def progress(
        self, phase: str, done: int, total: int, unit: Literal["bytes", "items"] = "items", detail: str = ""
    ) -> None:
        """Tell how far it is, ten times a second at most; the begin and the end of a phase always go out."""
        now = time.monotonic()
        if phase == self._phase and done < total and now - self._told_at < _PROGRESS_S:
            return
        self._phase, self._told_at = phase, now
        self._outlet.send(JobProgress(self.id, phase, done, total, unit, detail))

    def expect(self, id: int) -> asyncio.Future[JobAnswer]:
        """What the engine of the conversation answers to job command ``id``. Never done if the engine ends."""
        future: asyncio.Future[JobAnswer] = asyncio.get_running_loop().create_future()
        self._answers[id] = future
        future.add_done_callback(lambda _: self._answers.pop(id, None))
        return future

    @asynccontextmanager
    async def side_engine(self) -> AsyncIterator[SideEngine]:
        """An engine process of the job's own, without a model; ended with the block, however that is left."""
        engine = SideEngine(self._engine_command, self._engine_log)
        try:
            await engine.start()
            yield engine
        finally:
            # A job that is stopped while it ends by itself still waits until the process is gone.
            ending = asyncio.ensure_future(engine.end())
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                await ending
                raise

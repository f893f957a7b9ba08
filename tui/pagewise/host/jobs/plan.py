"""Plans: made by the engine that owns the devices whenever it is idle, by one of their own where there is none."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from weakref import WeakKeyDictionary

from pagewise.host.jobs.job import Job, JobError
from pagewise.host.jobs.side_engine import SideEngine
from pagewise.host.slot import EngineDied, EngineSlot, lost_failure
from pagewise.host.supervise import Engine
from pagewise.jobs.base import JobAnswer, JobFailed
from pagewise.jobs.plan import MakePlan, Planned
from pagewise.messages import Stop

_LOOK_S = 0.05
_UNUSED_S = 15.0
"""A person who looks at one profile looks at the next one soon; until then the engine that planned it is kept."""


class _Replaced(JobError):
    """A newer plan was asked for before this one was begun."""

    cancelled = True

    def __init__(self) -> None:
        super().__init__("This plan was not made", "A newer one was asked for.", "Wait for that one.")


class _Interrupted(Exception):
    """The engine is wanted for something else; the plan can be made later."""


async def run(command: MakePlan, job: Job) -> None:
    """Make one plan and send it. Of those that wait only the newest is made."""
    await _desks.setdefault(job.slot, _Desk()).serve(command, job)


class _Desk:
    """The plans of one host: one is made at a time, one waits at most."""

    def __init__(self) -> None:
        self._newest = 0
        self._is_busy = False
        self._side: SideEngine | None = None
        self._stack = AsyncExitStack()
        self._used_at = 0.0
        self._retiring: asyncio.Task[None] | None = None

    async def serve(self, command: MakePlan, job: Job) -> None:
        self._newest = command.id
        while True:
            await self._turn(command, job)
            self._is_busy = True
            try:
                answer = await self._ask(command, job)
            except _Interrupted:
                continue
            finally:
                self._is_busy = False
            if isinstance(answer, JobFailed):
                raise JobError(answer.failure.what, answer.failure.why, answer.failure.next)
            if isinstance(answer, Planned):
                job.send(answer)
            return

    async def _turn(self, command: MakePlan, job: Job) -> None:
        is_told = False
        while self._is_busy or not job.is_idle():
            if not is_told:
                job.progress("waiting", 0, 0)
                is_told = True
            await asyncio.sleep(_LOOK_S)
            if self._newest != command.id:
                raise _Replaced

    async def _ask(self, command: MakePlan, job: Job) -> JobAnswer:
        engine = job.slot.engine
        if engine is not None:
            return await self._ask_conversations(engine, command, job)
        side = await self._side_engine(job)
        side.send(command)
        try:
            return await self._watched(asyncio.ensure_future(_answer_of(side, command.id)), command, job, side, None)
        except EngineDied:
            if self._retiring is not None:
                self._retiring.cancel()
            await self._close_side()
            raise

    async def _ask_conversations(self, engine: Engine, command: MakePlan, job: Job) -> JobAnswer:
        answer = job.expect(command.id)
        engine.send(command)
        return await self._watched(answer, command, job, engine, engine)

    async def _watched(
        self,
        answer: asyncio.Future[JobAnswer],
        command: MakePlan,
        job: Job,
        asked: Engine | SideEngine,
        of_conversation: Engine | None,
    ) -> JobAnswer:
        """The answer. The engine is told to leave off when it is wanted for a turn or a load, or the plan is not."""
        is_stopped = False
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=_LOOK_S)
                if job.slot.engine is not of_conversation and not answer.done():
                    if of_conversation is None or of_conversation.dismissed:
                        raise _Interrupted
                    raise EngineDied(lost_failure(of_conversation, "while it planned"), of_conversation.end)
                if not is_stopped and not job.is_idle():
                    asked.send(Stop(command.id))
                    is_stopped = True
            self._used_at = time.monotonic()
            found = answer.result()
        except asyncio.CancelledError:
            asked.send(Stop(command.id))
            raise
        finally:
            answer.cancel()
        if isinstance(found, JobFailed) and found.cancelled:
            raise _Interrupted
        return found

    # ---- an engine of its own ---------------------------------------------------------------------------------------

    async def _side_engine(self, job: Job) -> SideEngine:
        self._used_at = time.monotonic()
        if self._side is None:
            self._side = await self._stack.enter_async_context(job.side_engine())
            self._retiring = asyncio.create_task(self._retire(job))
        return self._side

    async def _retire(self, job: Job) -> None:
        """End it when it is not used any more, and at once when memory is wanted for a model."""
        mine = self._stack
        try:
            while job.slot.engine is None and job.is_idle() and time.monotonic() - self._used_at < _UNUSED_S:
                await asyncio.sleep(_LOOK_S)
                if self._is_busy:
                    self._used_at = time.monotonic()
            while self._is_busy:  # noqa: ASYNC110 - what it waits for was told to leave off, and does
                await asyncio.sleep(_LOOK_S)
        finally:
            if self._stack is mine:
                await self._close_side()

    async def _close_side(self) -> None:
        self._side = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


async def _answer_of(side: SideEngine, id: int) -> JobAnswer:
    async for event in side.events():
        if isinstance(event, JobAnswer) and event.id == id:
            return event
    raise AssertionError("events only end by EngineDied")


_desks: WeakKeyDictionary[EngineSlot, _Desk] = WeakKeyDictionary()

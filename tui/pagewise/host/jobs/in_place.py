"""The engine of the conversation as a yardstick: nothing is loaded, and the conversation stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from pagewise.host.jobs.job import Job
from pagewise.host.jobs.yardstick import Refused
from pagewise.host.slot import EngineDied, LoadRefused
from pagewise.host.supervise import Engine
from pagewise.host.watchdog import Limits
from pagewise.jobs.base import JobAnswer, JobFailed
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.measure import Measure, Measured
from pagewise.jobs.plan import MemoryPlan
from pagewise.messages import ChangeClass, Failure, Loaded, ModelInfo, Notice, Stop
from pagewise.profiles.cost import change_class
from pagewise.settings import Profile

T = TypeVar("T")
_LOOK_S = 0.5
_GONE = Failure(
    "The engine has ended",
    "It ended in the middle of a measurement.",
    "It is started again and the conversation goes on; F6 begins anew.",
)


class InPlace:
    """For as long as the engine is lent. ``restore`` puts back what was in force."""

    def __init__(self, job: Job, in_force: Profile, model: ModelInfo) -> None:
        self.profile: Profile | None = in_force
        self.model: ModelInfo | None = model
        self._job = job
        self._begun_with = in_force
        self._stop_s = Limits().stop

    async def load(self, profile: Profile) -> Loaded | None:
        """Bring it in force; None where nothing is to be done. Raises Refused and EngineDied.

        A cancellation is raised once it is in force or refused: else ``restore`` could not know what is.
        """
        assert self.profile is not None
        change = change_class(self.profile, profile)[0]
        if change == "none":
            return None
        if change not in ("live", "context"):
            raise Refused(Failure("This needs a load", "The conversation's model stays.", "Run `pagewise tune`."))
        return await to_its_end(self._bring(profile, change))

    async def _bring(self, profile: Profile, change: ChangeClass, *, must_carry: bool = True) -> Loaded:
        slot = self._job.slot
        try:
            loaded = await slot.load(self._job.id, profile, change, must_carry=must_carry)
        except LoadRefused as error:
            if error.kept is None:
                # It holds no model any more, of which nobody but us is told: the next one is loaded as after any loss.
                await slot.give_up(f"It could not go back to the profile that was in force. {error.failure.why}")
                raise EngineDied(error.failure) from error
            raise Refused(error.failure) from error
        self.profile, self.model = profile, loaded.model
        return loaded

    async def plan(self, profile: Profile) -> MemoryPlan | None:
        """Not asked for: nothing is loaded, and the engine itself refuses a context that does not fit."""
        return None

    async def measure(self, test: BenchTest) -> Measured:
        """One sample behind what the conversation holds. Raises Refused and EngineDied."""
        engine = self._job.slot.engine
        if engine is None:
            raise EngineDied(_GONE)
        answer = self._job.expect(self._job.id)
        # Between two measurements it owes nothing.
        self._job.slot.last_word_at = time.monotonic()
        engine.send(Measure(self._job.id, test.test, test.n_prompt, test.n_output, -1))
        said: JobAnswer | None = None
        while said is None:
            try:
                done, _ = await asyncio.wait([answer], timeout=_LOOK_S)
            except asyncio.CancelledError:
                # Somebody wants the engine: it must not measure to the end first.
                engine.send(Stop(self._job.id))
                await to_its_end(self._stopped(engine, answer))
                raise
            if done:
                said = answer.result()
            elif self._job.slot.engine is not engine:
                answer.cancel()
                raise EngineDied(_GONE)
        if isinstance(said, JobFailed):
            raise Refused(said.failure)
        assert isinstance(said, Measured)
        return said

    async def _stopped(self, engine: Engine, answer: asyncio.Future[JobAnswer]) -> None:
        """An engine that does not stop is ended: whoever wants it gets another one."""
        waited = 0.0
        while self._job.slot.engine is engine and not answer.done():
            await asyncio.wait([answer], timeout=_LOOK_S)
            waited += _LOOK_S
            if waited > self._stop_s and not answer.done():
                await self._job.slot.give_up(
                    f"It was asked to stop measuring and had not done so after {self._stop_s:g} seconds."
                )
                return

    async def restore(self) -> None:
        """What was in force before, for the price of the KV cache where it must be; if the engine is gone, or refuses
        even that, another one is started with it. Raises EngineDied.
        """
        assert self.profile is not None
        if self._job.slot.engine is None:
            return
        try:
            await self.load(self._begun_with)
        except Refused:
            await to_its_end(self._restore_without_cache(change_class(self.profile, self._begun_with)[0]))

    async def _restore_without_cache(self, change: ChangeClass) -> None:
        try:
            loaded = await self._bring(self._begun_with, change, must_carry=False)
        except Refused as error:
            await self._job.slot.give_up(f"It refused the profile that was in force before. {error.failure.why}")
            raise EngineDied(error.failure) from error
        if loaded.kv_note:
            self._job.send(
                Notice(
                    Failure(
                        "The KV cache was not kept over the tune",
                        f"{loaded.kv_note}.",
                        "The next reply reads the conversation from its beginning.",
                    )
                )
            )


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` comes to. However often this is cancelled meanwhile, that is raised when it is over."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()
        raise asyncio.CancelledError
    return task.result()

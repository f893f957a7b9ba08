"""The jobs of one host: begun, cancelled, and their ends told."""

from __future__ import annotations

import asyncio
import importlib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pagewise.failure import Failure
from pagewise.host.jobs.job import Job, JobError, Lend
from pagewise.host.outlet import Outlet
from pagewise.host.slot import EngineDied, EngineSlot
from pagewise.jobs.base import JobAnswer, JobFailed, JobProgress, JobRequest, JobWish
from pagewise.jobs.bench import Bench
from pagewise.jobs.catalog import FindModels
from pagewise.jobs.compare import CompareModels
from pagewise.jobs.plan import MakePlan
from pagewise.jobs.pull import Pull
from pagewise.jobs.quantize import Quantize
from pagewise.jobs.tune import Tune

_KINDS: dict[type[JobRequest], str] = {
    Bench: "bench",
    CompareModels: "compare",
    FindModels: "catalog",
    MakePlan: "plan",
    Pull: "pull",
    Quantize: "quantize",
    Tune: "tune",
}
"""Each command's module in this folder; its ``run(command, job)`` does it. Imported when it is first asked for."""
_CANCELLED = Failure("Stopped", "You stopped it.", "Start it again when you want it.")


class Jobs:
    """Runs any number of jobs beside one another; a kind that must not says so itself."""

    def __init__(
        self,
        outlet: Outlet,
        slot: EngineSlot,
        engine_command: Sequence[str],
        engine_log: Path,
        is_idle: Callable[[], bool],
        lend: Lend,
    ) -> None:
        self._outlet, self._slot, self._is_idle, self._lend = outlet, slot, is_idle, lend
        self._engine_command, self._engine_log = engine_command, engine_log
        self._running: dict[int, asyncio.Task[None]] = {}
        self._jobs: dict[int, Job] = {}
        self._answers: dict[int, asyncio.Future[JobAnswer]] = {}

    def begin(self, command: JobRequest) -> None:
        """Do it in the background."""
        task = asyncio.create_task(self._run(command))
        self._running[command.id] = task
        task.add_done_callback(lambda task: self._over(command.id, task))

    def hear(self, event: JobAnswer | JobProgress) -> None:
        """What the engine of the conversation says to a job. An answer that nobody waits for any more is dropped."""
        answer = self._answers.get(event.id)
        if isinstance(event, JobProgress):
            self._outlet.send(event)
        elif answer is not None and not answer.done():
            answer.set_result(event)

    def tell(self, wish: JobWish) -> None:
        """Hand it to the job it is for; nothing where that is over."""
        job = self._jobs.get(wish.id)
        if job is not None:
            job.heed(wish)

    def stop(self, id: int) -> bool:
        """Cancel job ``id``; False if there is none of that id."""
        task = self._running.get(id)
        if task is not None:
            task.cancel()
        return task is not None

    async def close(self) -> None:
        """Cancel all of them and wait until what they started is gone."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, command: JobRequest) -> None:
        try:
            kind = importlib.import_module(f"pagewise.host.jobs.{_KINDS[type(command)]}")
            job = Job(
                command.id,
                self._outlet,
                self._slot,
                self._engine_command,
                self._engine_log,
                self._is_idle,
                self._answers,
                self._lend,
            )
            self._jobs[command.id] = job
            await kind.run(command, job)
        except asyncio.CancelledError:
            self._fail(command.id, _CANCELLED, cancelled=True)
        except JobError as error:
            self._fail(command.id, error.failure, error.cancelled)
        except EngineDied as error:
            self._fail(command.id, error.failure)
        except Exception as error:
            failure = getattr(error, "failure", None)
            if not isinstance(failure, Failure):
                traceback.print_exception(error)
                failure = Failure(
                    "This did not work",
                    f"A fault of pagewise: {type(error).__name__}: {error}",
                    "The conversation goes on; please report it.",
                )
            self._fail(command.id, failure)

    def _over(self, id: int, task: asyncio.Task[None]) -> None:
        self._running.pop(id, None)
        self._jobs.pop(id, None)
        if task.cancelled():
            # It was stopped before it had begun.
            self._fail(id, _CANCELLED, cancelled=True)

    def _fail(self, id: int, failure: Failure, cancelled: bool = False) -> None:
        self._outlet.send(JobFailed(id, failure, cancelled))

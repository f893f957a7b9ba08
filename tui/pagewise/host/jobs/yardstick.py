"""An engine of a job's own at which profiles are measured one after the other."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

import msgspec

from pagewise.host.jobs.job import Job, JobError
from pagewise.host.jobs.side_engine import SideEngine
from pagewise.host.slot import EngineDied
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.compare import MeasureQuality, Quality, QualityMeasured
from pagewise.jobs.measure import Measure, Measured
from pagewise.jobs.plan import MakePlan, MemoryPlan, Planned
from pagewise.messages import EngineHello, Failure, Load, Loaded, LoadFailed, LoadProgress, ModelInfo
from pagewise.profiles.cost import change_class
from pagewise.settings import Profile


class Refused(JobError):
    """The engine could not do this one thing; it can go on with another."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what, failure.why, failure.next)


class Yardstick:
    """Use as a context manager. An engine that ends by itself is replaced at the next load."""

    def __init__(self, job: Job) -> None:
        self.profile: Profile | None = None
        """In force, if any."""
        self.model: ModelInfo | None = None
        self._job = job
        self._stack = AsyncExitStack()
        self._engine: SideEngine | None = None
        self._id = 0

    async def __aenter__(self) -> Yardstick:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.clear()

    @property
    def pid(self) -> int | None:
        """The engine's process."""
        return self._engine.pid if self._engine is not None else None

    @property
    def hello(self) -> EngineHello | None:
        """What the engine said of itself."""
        return self._engine.hello if self._engine is not None else None

    @property
    def accelerators(self) -> tuple[str, ...]:
        """ggml's names of the devices that the engine has found; none before there is an engine."""
        names = (said.partition(":")[0] for said in (self.hello.devices if self.hello is not None else ()))
        return tuple(name for name in names if not name.startswith(("CPU", "BLAS")))

    async def clear(self) -> None:
        """End the engine; its memory is then free."""
        self._engine = self.profile = self.model = None
        await self._stack.aclose()

    async def load(self, profile: Profile) -> Loaded | None:
        """Bring it in force by the cheapest change; None where nothing is to be done.

        Raises Refused, after which another profile can be tried, and EngineDied.
        """
        change = change_class(self.profile, profile)[0] if self.profile is not None else "process"
        if change == "none":
            return None
        engine = await self._up()
        self._id += 1
        engine.send(Load(self._id, profile, change))
        try:
            async for event in engine.events():
                if isinstance(event, LoadProgress) and event.total_bytes:
                    self._job.progress(f"load {profile.name}", event.done_bytes, event.total_bytes, "bytes")
                elif isinstance(event, Loaded):
                    self.profile, self.model = profile, event.model
                    return event
                elif isinstance(event, LoadFailed):
                    if event.restored is None:
                        self.profile = self.model = None
                    raise Refused(event.failure)
        except EngineDied:
            await self.clear()
            raise
        raise AssertionError("the events of an engine end with its death")

    async def library(self) -> str:
        """Which llama.cpp measures: its version, and what it is built for. Raises EngineDied."""
        hello = (await self._up()).hello
        return f"{hello.llama_cpp} {hello.system_info}" if hello is not None else ""

    async def plan(self, profile: Profile) -> MemoryPlan | None:
        """What it would take in place of what is held now; None where that cannot be known. Raises EngineDied."""
        engine = await self._up()
        self._id += 1
        engine.send(MakePlan(self._id, profile))
        try:
            async for event in engine.events():
                if isinstance(event, Planned):
                    return event.plan
                if isinstance(event, JobFailed):
                    return None
        except EngineDied:
            await self.clear()
            raise
        raise AssertionError("the events of an engine end with its death")

    async def quality(self, profile: Profile, wanted: MeasureQuality) -> Quality:
        """What ``wanted`` finds of this profile; its id is set here. Nothing is in force afterwards.

        Raises Refused and EngineDied.
        """
        await self.load(profile)
        assert self._engine is not None
        self._id += 1
        self._engine.send(msgspec.structs.replace(wanted, id=self._id))
        try:
            async for event in self._engine.events():
                if isinstance(event, QualityMeasured):
                    return event.quality
                if isinstance(event, JobFailed):
                    raise Refused(event.failure)
                if isinstance(event, JobProgress):
                    self._job.progress(f"quality: {event.phase}", event.done, event.total, event.unit)
        except EngineDied:
            await self.clear()
            raise
        finally:
            self.profile = self.model = None
        raise AssertionError("the events of an engine end with its death")

    async def _up(self) -> SideEngine:
        if self._engine is None:
            self._engine = await self._stack.enter_async_context(self._job.side_engine())
        return self._engine

    async def measure(self, test: BenchTest) -> Measured:
        """One sample on the profile in force. Raises Refused and EngineDied."""
        assert self._engine is not None, "nothing has been loaded"
        self._id += 1
        self._engine.send(Measure(self._id, test.test, test.n_prompt, test.n_output, test.depth))
        try:
            async for event in self._engine.events():
                if isinstance(event, Measured):
                    return event
                if isinstance(event, JobFailed):
                    raise Refused(event.failure)
        except EngineDied:
            await self.clear()
            raise
        raise AssertionError("the events of an engine end with its death")


def drop_from_cache(path: Path) -> None:
    """Ask the kernel to forget the file's pages; those that a process maps stay. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)

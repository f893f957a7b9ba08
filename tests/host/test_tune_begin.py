"""Where a tune begins, by plans alone: nothing is loaded."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagewise.failure import Failure
from pagewise.host.engine_exit import EngineExit
from pagewise.host.jobs.job import JobError
from pagewise.host.jobs.tune_meter import EngineMeter
from pagewise.host.jobs.tune_start import Begun, begin
from pagewise.host.slot import EngineDied
from pagewise.jobs.plan import DevicePlan, MemoryPlan
from pagewise.jobs.tune import Aim
from pagewise.settings import Keep, Profile
from pagewise.tuner.fatal import FatalSettings

MIB = 1024**2
START = Profile(name="a", model="/m/a.gguf", n_gpu_layers=0)


class FakeYardstick:
    """Plans as ``streamed`` says, and loads whatever ``dies`` does not end."""

    def __init__(
        self,
        streamed: Callable[[Profile], int] = lambda profile: 0,
        dies: Callable[[Profile], bool] = lambda profile: False,
    ) -> None:
        self.profile: Profile | None = None
        self._streamed, self._dies = streamed, dies

    async def plan(self, profile: Profile) -> MemoryPlan:
        ram = DevicePlan("RAM", "", 0, 100 * MIB, 0, 0, 2000 * MIB, 1000 * MIB)
        gpu = DevicePlan("CUDA0", "", 0, 0, 0, 0, 2000 * MIB, 1000 * MIB)
        streamed = self._streamed(profile) * MIB
        return MemoryPlan(profile, (ram, gpu), 700 * MIB, 0, streamed, 512, 0, 4, True, False, 0)

    async def load(self, profile: Profile) -> None:
        if self._dies(profile):
            raise EngineDied(Failure("The engine died", "SIGILL", ""), EngineExit(signal.SIGILL, None, False, ""))
        self.profile = profile


def begun(yardstick: FakeYardstick, start: Profile, aim: Aim, meter: EngineMeter | None = None) -> Begun:
    there: Any = yardstick
    return asyncio.run(begin(there, meter or EngineMeter(there, there), start, aim, (), ()))


def kept(profile: Profile, always: int = 0) -> int:
    """Streamed MiB of 700 where ``always`` of them stay whatever is to be kept."""
    if not isinstance(profile.placement, Keep):
        return 0
    return max(0, 700 - always - profile.placement.bytes // MIB)


def test_of_a_model_that_would_stay_as_a_whole_less_is_kept_where_ram_is_to_stay_free() -> None:
    found = begun(FakeYardstick(kept), START, Aim(leave_free_on=(("ram", 400 * MIB),)))
    assert found.profile.placement == Keep("500MiB") and found.notes


def test_what_stays_whatever_is_kept_is_taken_from_it() -> None:
    found = begun(FakeYardstick(lambda profile: kept(profile, 50)), START, Aim(leave_free_bytes=400 * MIB))
    assert found.profile.placement == Keep("450MiB")


def test_a_model_that_leaves_enough_is_begun_with_as_it_is() -> None:
    found = begun(FakeYardstick(kept), START, Aim(leave_free_bytes=200 * MIB))
    assert found.profile == START and not found.notes


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(JobError) as caught:
        begun(FakeYardstick(), START, Aim(leave_free_on=(("CUDA1", MIB),)))
    assert "CUDA1" in caught.value.failure.what and "RAM, CUDA0" in caught.value.failure.why
    assert begun(FakeYardstick(), START, Aim(leave_free_on=(("cuda0", MIB), ("Ram", MIB)))).profile == START


def test_an_engine_that_dies_of_repacking_at_the_first_load_is_remembered(tmp_path: Path) -> None:
    yardstick: Any = FakeYardstick(dies=lambda profile: profile.repack == "on")
    meter = EngineMeter(yardstick, yardstick)
    meter.fatal = FatalSettings("this", "build", tmp_path)
    found = begun(yardstick, Profile(name="a", model="/m/a.gguf", repack="on"), Aim(), meter)
    assert found.profile.repack == "off"
    assert FatalSettings("this", "build", tmp_path).why("repack", "on") == "SIGILL"

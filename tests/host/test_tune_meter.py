"""What the tuner's meter asks of an engine for each goal, and what it lets a plan rule out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pagewise.host.jobs.tune_meter import EngineMeter, too_large
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.measure import Measured
from pagewise.jobs.plan import DevicePlan, MemoryPlan
from pagewise.jobs.tune import Aim
from pagewise.settings import Profile

MIB = 1024**2
PROFILE = Profile(name="mine")


class FakeJob:
    def progress(self, *_: object) -> None:
        """Nobody listens."""


class FakeModel:
    threads = threads_batch = n_ubatch = 1
    flash_attention = True
    buffers = placement = ()
    path = "model.gguf"


class FakeYardstick:
    """Answers every measurement, and keeps what was asked."""

    def __init__(self) -> None:
        self.profile: Profile | None = PROFILE
        self.model = FakeModel()
        self.asked: list[BenchTest] = []

    async def load(self, profile: Profile) -> None:
        self.profile = profile

    async def measure(self, test: BenchTest) -> Measured:
        self.asked.append(test)
        return Measured(0, 1, 1, 1, test.n_prompt, test.n_output)


def asked(aim: Aim, thorough: bool) -> BenchTest:
    yardstick: Any = FakeYardstick()
    job: Any = FakeJob()
    asyncio.run(EngineMeter(yardstick, job).measure(PROFILE, aim, thorough))
    (test,) = yardstick.asked
    return test  # type: ignore[no-any-return]


@pytest.mark.parametrize("thorough", [False, True])
def test_of_long_prompts_the_whole_prompt_is_measured_and_hardly_a_reply(thorough: bool) -> None:
    assert asked(Aim("long-prompts", 4096, 128, 0), thorough) == BenchTest("chat", 4096, 8, 0)


@pytest.mark.parametrize("goal", ["chat", "batch"])
def test_of_replies_a_part_is_written_at_first_behind_the_depth(goal: Any) -> None:
    assert asked(Aim(goal, 256, 128, 1000), False) == BenchTest("chat", 256, 32, 1000)
    assert asked(Aim(goal, 256, 128, 1000), True) == BenchTest("chat", 256, 128, 1000)


def plan(*devices: DevicePlan, mapped: int = 0, streamed: int = 0, fits: bool = True) -> MemoryPlan:
    return MemoryPlan(PROFILE, devices, mapped * MIB, 0, streamed * MIB, 512, 0, 4, fits, False, 0)


def device(name: str, needed: int, free: int) -> DevicePlan:
    return DevicePlan(name, "", needed * MIB, 0, 0, 0, 2 * free * MIB, free * MIB)


def test_what_is_to_stay_free_is_looked_at_device_by_device() -> None:
    two = plan(device("RAM", 100, 1000), device("CUDA0", 900, 1000))
    assert too_large(two, Aim()) is None
    assert too_large(two, Aim(leave_free_on=(("RAM", 500 * MIB),))) is None
    refused = too_large(two, Aim(leave_free_on=(("CUDA0", 500 * MIB),)))
    assert refused is not None and "CUDA0" in refused.what and "500 MiB are to stay free" in refused.why


def test_what_is_kept_of_a_streamed_model_counts_once_ram_is_to_stay_free() -> None:
    streamed = plan(device("RAM", 100, 1000), mapped=2000, streamed=1150)
    assert too_large(streamed, Aim()) is None
    assert too_large(streamed, Aim(leave_free_bytes=100 * MIB)) is not None
    assert too_large(streamed, Aim(leave_free_bytes=40 * MIB)) is None


def test_what_is_mapped_and_not_streamed_counts_once_ram_is_to_stay_free() -> None:
    mapped = plan(device("RAM", 100, 1000), mapped=700)
    assert too_large(mapped, Aim()) is None
    assert too_large(mapped, Aim(leave_free_on=(("RAM", 200 * MIB),))) is None
    refused = too_large(mapped, Aim(leave_free_on=(("ram", 300 * MIB),)))
    assert refused is not None and "It takes 800 MiB of the 1,000 MiB" in refused.why


def test_what_is_known_of_a_file_goes_by_what_its_own_plan_streams() -> None:
    yardstick: Any = FakeYardstick()
    job: Any = FakeJob()
    meter = EngineMeter(yardstick, job)
    heard: list[int | None] = []
    meter.facts_of = lambda model, streamed: heard.append(streamed)  # type: ignore[assignment, func-returns-value]
    other = Profile(name="mine", model="/m/other.gguf")
    meter.planned[other] = 5 * MIB
    for profile in (PROFILE, other, Profile(name="mine", model="/m/other.gguf", threads=3)):
        asyncio.run(meter.measure(profile, Aim(), False))
    assert heard == [None, 5 * MIB]


def test_a_plan_that_says_no_is_believed() -> None:
    assert too_large(plan(device("RAM", 100, 1000), fits=False), Aim()) is not None

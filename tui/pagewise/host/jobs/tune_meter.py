"""The tuner's meter at a real engine."""

from __future__ import annotations

import signal
from collections.abc import Callable

from pagewise.failure import Failure
from pagewise.host.jobs.in_place import InPlace
from pagewise.host.jobs.job import Job
from pagewise.host.jobs.tune_quality import QualityMeter
from pagewise.host.jobs.yardstick import Refused, Yardstick
from pagewise.host.slot import EngineDied
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.plan import RAM, MemoryPlan
from pagewise.jobs.tune import MEASURE, Aim
from pagewise.messages import ModelInfo
from pagewise.profiles.cost import change_class
from pagewise.settings import Profile
from pagewise.tuner.comparison import Quality, Taken, TrialFailed
from pagewise.tuner.facts import Facts
from pagewise.tuner.fatal import FatalSettings

_QUICK = 4
"""The part of the aim's output that is measured at first."""
LEAST_OUTPUT = 8
WARM_UP_PROMPT = 32
_MIB = 1024**2


class EngineMeter:
    """Measures in the yardstick's engine. What a change of class model does to an engine that dies of it is one lost
    trial: the next load starts another.
    """

    def __init__(self, yardstick: Yardstick | InPlace, job: Job) -> None:
        self.fatal: FatalSettings | None = None
        """What is known to kill an engine here."""
        self.costs: QualityMeter | None = None
        """Tells what a profile costs in quality; None: nothing that costs any is tried."""
        self.facts_of: Callable[[ModelInfo, int | None], Facts] | None = None
        """Makes what is known of another file once it is loaded, with what is streamed of it by its plan, if there was
        one; None: there is but one file."""
        self.planned: dict[Profile, int] = {}
        """What plans said is streamed, in bytes."""
        self.taken = 0
        """Measurements of the trial in hand."""
        self._yardstick, self._job = yardstick, job
        self._known: dict[tuple[str, int | None], Facts] = {}

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        """One sample. Raises TrialFailed."""
        self.taken += 1
        self._job.progress(MEASURE, self.taken, 0)
        try:
            cold = await self._bring_in_force(profile)
            if cold:
                await self._yardstick.measure(
                    BenchTest("chat", min(aim.n_prompt, WARM_UP_PROMPT), LEAST_OUTPUT, aim.depth)
                )
            measured = await self._yardstick.measure(
                BenchTest("chat", aim.n_prompt, output_of(aim, thorough), aim.depth)
            )
        except EngineDied as error:
            if isinstance(self._yardstick, InPlace):
                # Another one is started for the conversation, but only once this one is no longer lent.
                raise
            self.remember(profile, error)
            raise TrialFailed(error.failure) from error
        except Refused as error:
            raise TrialFailed(error.failure) from error
        model = self._yardstick.model
        assert model is not None
        return Taken(
            measured,
            model.threads,
            model.threads_batch,
            model.n_ubatch,
            model.flash_attention,
            sum(buffer.bytes for buffer in model.buffers),
            sum(layer.device_bytes for layer in model.placement)
            + sum(buffer.bytes for buffer in model.buffers if buffer.kind != "weights" and buffer.device != "CPU"),
            self._facts_with(profile, model),
        )

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        """Why it cannot fit, or is known to end an engine; None if it may be tried."""
        former = self._yardstick.profile
        if profile.repack == "on" and self.fatal is not None and (why := self.fatal.why("repack", "on")) is not None:
            return Failure(
                "An engine has died of repacking on this machine", why, "Another build of llama.cpp may bear it."
            )
        if former is not None and change_class(former, profile)[0] in ("none", "live"):
            return None
        try:
            plan = await self._yardstick.plan(profile)
        except EngineDied:
            return None
        if plan is None:
            return None
        self.planned[profile] = plan.streamed_bytes
        return too_large(plan, aim)

    async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
        """What it costs in quality; None where it costs none, or nobody asked."""
        return None if self.costs is None else await self.costs.of(profile)

    async def _bring_in_force(self, profile: Profile) -> bool:
        """Whether anything but a live change had to be done for it."""
        former = self._yardstick.profile
        loaded = await self._yardstick.load(profile)
        return loaded is not None and (former is None or change_class(former, profile)[0] not in ("none", "live"))

    def _facts_with(self, profile: Profile, model: ModelInfo) -> Facts | None:
        if self.facts_of is None:
            return None
        # What changes live moves no weights, and is not planned.
        alike = (each for each in self.planned if change_class(each, profile)[0] in ("none", "live"))
        streamed = self.planned.get(next(alike, profile))
        key = model.path, streamed
        if key not in self._known:
            self._known[key] = self.facts_of(model, streamed)
        return self._known[key]

    def remember(self, profile: Profile, error: EngineDied) -> None:
        """Keep what the engine died of: an instruction that is missing today is missing tomorrow."""
        by = error.end.signal if error.end is not None else None
        if profile.repack == "on" and by == signal.SIGILL and self.fatal is not None:
            self.fatal.keep("repack", "on", error.failure.why)


def output_of(aim: Aim, thorough: bool) -> int:
    """Tokens to write: of no use where the first one is all that counts."""
    if aim.goal == "long-prompts":
        return LEAST_OUTPUT
    return aim.n_output if thorough else max(LEAST_OUTPUT, aim.n_output // _QUICK)


def too_large(plan: MemoryPlan, aim: Aim) -> Failure | None:
    """Why a plan says no. What is mapped and stays can be evicted: it counts only where RAM is to stay free."""
    remedy = "Fewer layers on the device, a smaller quant or a shorter context would."
    for device in plan.devices:
        leave = aim.leave_free(device.device)
        in_ram = device.device == RAM
        if device.free_bytes is None or (in_ram and plan.streamed_bytes and not leave):
            continue
        needed = device.needed_bytes + (plan.mapped_bytes - plan.streamed_bytes if in_ram and leave else 0)
        if device.free_bytes - needed < leave:
            return Failure(
                f"It does not fit on {device.device}",
                f"It takes {needed / _MIB:,.0f} MiB of the {device.free_bytes / _MIB:,.0f} MiB that are "
                f"free there, and {leave / _MIB:,.0f} MiB are to stay free.",
                remedy,
            )
    if not plan.fits:
        return Failure("It does not fit", " ".join(plan.notes) or "The plan says so.", remedy)
    return None

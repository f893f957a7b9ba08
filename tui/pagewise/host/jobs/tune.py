"""Runs the tuner's trials in an engine of its own, and keeps what they found."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types

from pagewise.failure import Failure
from pagewise.host.jobs.in_place import InPlace
from pagewise.host.jobs.job import Job, JobError
from pagewise.host.jobs.yardstick import Refused, Yardstick
from pagewise.host.slot import EngineDied
from pagewise.instruments.devices import DevicesInstrument
from pagewise.instruments.processor import processor_name
from pagewise.instruments.system import physical_cores
from pagewise.jobs.base import JobWish
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.plan import RAM, MemoryPlan
from pagewise.jobs.tune import Aim, FixKey, TakeBest, Trial, TrialEnded, Tune, Tuned
from pagewise.messages import ModelInfo
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.split import read_parts
from pagewise.profiles.cost import change_class
from pagewise.settings import Profile
from pagewise.tuner.comparison import Taken, TrialFailed
from pagewise.tuner.facts import Device, Facts
from pagewise.tuner.ledger import Ledger, begin_from, machine_name
from pagewise.tuner.move import Move
from pagewise.tuner.search import Cannot, Search, Wishes
from pagewise.verdict.roofline import known_peak

_QUICK = 4
"""The part of the aim's output that is measured at first."""
_LEAST_OUTPUT = 8
_MIB = 1024**2
_REPACKED = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "Q2_K"})


async def run(command: Tune, job: Job) -> None:
    """Search, tell each trial, and end with Tuned. Raises JobError where even the start cannot be measured."""
    if command.in_place:
        await _in_place(command, job)
        return
    async with Yardstick(job) as yardstick:
        await _Tuning(command, job, yardstick).run()


async def _in_place(command: Tune, job: Job) -> None:
    """In the engine of the conversation: a message or a switch that is asked for meanwhile ends it at once."""
    this = asyncio.current_task()
    assert this is not None
    job.progress("waiting for the reply to end", 0, 0)
    async with job.lend(lambda: _leave(this)) as in_force:
        model = job.slot.model
        if in_force is None or model is None:
            raise JobError("There is nothing to tune", "No model is loaded.", "Choose a profile (F2).")
        place = InPlace(job, in_force, model)
        room = (model.n_ctx - command.aim.n_output) // 2
        if room < _LEAST_OUTPUT:
            raise JobError(
                "There is no room to measure in",
                f"The context has {model.n_ctx:,} tokens, and the conversation takes nearly all of them.",
                "Begin a new conversation (^N), or set a larger n_ctx.",
            )
        aim = msgspec.structs.replace(command.aim, n_prompt=min(command.aim.n_prompt, room))
        wanted = msgspec.structs.replace(command, profile=in_force, aim=aim)
        try:
            await _Tuning(wanted, job, place).run()
        finally:
            with contextlib.suppress(Refused, EngineDied):
                await place.restore()


def _leave(task: asyncio.Task[None]) -> None:
    task.cancel()


class _Tuning:
    def __init__(self, command: Tune, job: Job, yardstick: Yardstick | InPlace) -> None:
        self._command, self._job, self._yardstick = command, job, yardstick
        self._wishes = Wishes(command.fixed)
        self._began = time.monotonic()
        self._told = 0
        self._ledger: Ledger | None = None

    async def run(self) -> None:
        command = self._command
        start = command.profile if command.in_place else _start_of(command.profile, command.aim)
        meter = _EngineMeter(self._yardstick, self._job)
        self._job.progress("load", 0, 0)
        try:
            await self._yardstick.load(start)
        except Refused as error:
            raise JobError(error.failure.what, error.failure.why, error.failure.next) from error
        model = self._yardstick.model
        assert model is not None
        facts = _facts(model, command.aim)
        self._ledger = _ledger(model, facts, command.aim)
        first, rejected = ([], set()) if command.fresh else begin_from(self._ledger.trials(), start, command.aim)
        search = Search(
            meter,
            start,
            command.aim,
            facts,
            self._wishes,
            self._on_trial,
            most_trials=command.most_trials,
            most_seconds=command.most_seconds,
            first=first,
            rejected=rejected,
            only=_loads_nothing if command.in_place else lambda move: True,
        )
        self._job.heed = self._on_wish
        try:
            found = await search.run()
        except Cannot as error:
            raise JobError(error.failure.what, error.failure.why, error.failure.next) from error
        self._job.send(
            Tuned(
                command.id,
                start=found.start,
                best=found.best,
                trials=found.trials,
                gain=found.gain.value,
                low=found.gain.low,
                high=found.gain.high,
                pairs=found.pairs,
                reasons=found.reasons,
                notes=found.notes,
                seconds=time.monotonic() - self._began,
            )
        )

    def _on_wish(self, wish: JobWish) -> None:
        if isinstance(wish, FixKey):
            self._wishes.fixed.add(wish.key)
        elif isinstance(wish, TakeBest):
            self._wishes.enough = True

    def _on_trial(self, trial: Trial, best: Trial, left: int) -> None:
        if self._ledger is not None and trial.outcome not in ("start", "ruled out"):
            self._ledger.keep(trial)
        passed = time.monotonic() - self._began
        self._told += 1
        seconds_left = left * passed / self._told
        self._job.send(TrialEnded(self._command.id, trial, best.number, left, seconds_left))


class _EngineMeter:
    """Measures in the yardstick's engine. What a change of class model does to an engine that dies of it is one lost
    trial: the next load starts another.
    """

    def __init__(self, yardstick: Yardstick | InPlace, job: Job) -> None:
        self._yardstick, self._job = yardstick, job

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        output = aim.n_output if thorough else max(_LEAST_OUTPUT, aim.n_output // _QUICK)
        self._job.progress("measure", 0, 0, detail=profile.name)
        try:
            cold = await self._bring_in_force(profile)
            if cold:
                await self._yardstick.measure(BenchTest("chat", min(aim.n_prompt, 32), _LEAST_OUTPUT, aim.depth))
            measured = await self._yardstick.measure(BenchTest("chat", aim.n_prompt, output, aim.depth))
        except (Refused, EngineDied) as error:
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
        )

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        former = self._yardstick.profile
        if former is None or change_class(former, profile)[0] in ("none", "live"):
            return None
        try:
            plan = await self._yardstick.plan(profile)
        except EngineDied:
            return None
        return _too_large(plan, aim.leave_free_bytes) if plan is not None else None

    async def _bring_in_force(self, profile: Profile) -> bool:
        """Whether anything but a live change had to be done for it."""
        former = self._yardstick.profile
        loaded = await self._yardstick.load(profile)
        return loaded is not None and (former is None or change_class(former, profile)[0] not in ("none", "live"))


def _too_large(plan: MemoryPlan, leave_free: int) -> Failure | None:
    """Why a plan says no; a model that is streamed need not fit into RAM."""
    remedy = "Fewer layers on the device, a smaller quant or a shorter context would."
    for device in plan.devices:
        if device.free_bytes is None or (device.device == RAM and plan.streamed_bytes):
            continue
        if device.free_bytes - device.needed_bytes < leave_free:
            return Failure(
                f"It does not fit on {device.device}",
                f"It takes {device.needed_bytes / _MIB:,.0f} MiB of the {device.free_bytes / _MIB:,.0f} MiB that are "
                f"free there, and {leave_free / _MIB:,.0f} MiB are to stay free.",
                remedy,
            )
    if not plan.fits:
        return Failure("It does not fit", " ".join(plan.notes) or "The plan says so.", remedy)
    return None


def _loads_nothing(move: Move) -> bool:
    """Whether the KV cache comes along too: without it one side would be measured at another depth."""
    return move.cheap and not move.keys & {"flash_attention", "cache_type_k", "cache_type_v"}


def _start_of(profile: Profile, aim: Aim) -> Profile:
    """With room for what is measured; the probe off, because it is a cost that all candidates share."""
    needed = aim.depth + aim.n_prompt + aim.n_output + 1
    n_ctx = profile.n_ctx if profile.n_ctx == 0 or profile.n_ctx >= needed else -(-needed // 256) * 256
    sampling = msgspec.structs.replace(profile.sampling, temperature=0.0)
    return msgspec.structs.replace(profile, n_ctx=n_ctx, probe_every=0, sampling=sampling)


def _facts(model: ModelInfo, aim: Aim) -> Facts:
    seen = DevicesInstrument().sample(None).devices
    held = sum(layer.copied_bytes for layer in model.placement)
    available = _available_bytes() + held
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Facts(
        physical_cores=physical_cores(),
        logical_cores=logical,
        devices=tuple(
            Device(
                device.name,
                None if device.total_bytes is None else device.total_bytes - (device.used_bytes or 0),
                device.dram_peak_bytes_s,
            )
            for device in seen
        ),
        n_layer=model.n_layer,
        is_mixture=_is_mixture(Path(model.path)),
        bytes_per_token=model.bytes_per_token,
        kv_bytes_at_depth=model.kv_bytes_per_token * aim.depth,
        repackable_bytes=_repackable(Path(model.path)),
        model_bytes=model.file_bytes,
        available_bytes=available,
        ram_peaks={count: peak for count in range(1, logical + 1) if (peak := known_peak(count)) is not None},
        streamed_bytes=max(0, model.file_bytes - available),
    )


def _available_bytes() -> int:
    return int(psutil.virtual_memory().available)


def _is_mixture(path: Path) -> bool:
    try:
        header = read_header(path)
    except GgufError:
        return False
    return bool(header.number("expert_count"))


def _repackable(path: Path) -> int:
    try:
        headers = read_parts(path)
    except GgufError:
        return 0
    return sum(tensor.bytes for header in headers for tensor in header.tensors if tensor.type.name in _REPACKED)


def _ledger(model: ModelInfo, facts: Facts, aim: Aim) -> Ledger:
    devices = tuple(device.name for device in facts.devices)
    machine = machine_name(processor_name(), facts.logical_cores, devices)
    return Ledger(f"{model.name}|{model.architecture}|{model.quant}|{model.file_bytes}", machine, aim.goal)

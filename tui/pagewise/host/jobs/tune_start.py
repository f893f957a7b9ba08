"""Where a tune begins: the person's own profile, or the nearest one that fits and costs no more than is allowed."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from pagewise.failure import Failure
from pagewise.host.jobs.job import JobError
from pagewise.host.jobs.tune_meter import EngineMeter, too_large
from pagewise.host.jobs.yardstick import Refused, Yardstick
from pagewise.host.slot import EngineDied
from pagewise.jobs.plan import RAM, MemoryPlan
from pagewise.jobs.tune import Aim
from pagewise.models.gguf import printable
from pagewise.profiles.cost import change_class
from pagewise.settings import Keep, Profile
from pagewise.tuner.candidate import Candidate
from pagewise.tuner.starts import alternatives, kept

_MIB = 1024**2
_PLACING = ("n_gpu_layers", "load_mode", "placement", "repack", "model", "quant")


class Begun(NamedTuple):
    """What is in force now."""

    profile: Profile
    notes: tuple[str, ...]
    plan: MemoryPlan | None


class _No(NamedTuple):
    """Why a profile is none to begin with. ``by_plan``: it is too large."""

    failure: Failure
    plan: MemoryPlan | None
    by_plan: bool


async def begin(
    yardstick: Yardstick,
    meter: EngineMeter,
    start: Profile,
    aim: Aim,
    fixed: Collection[str],
    candidates: tuple[Candidate, ...],
) -> Begun:
    """Load ``start``, or what may be begun with instead. Raises JobError where nothing may, and where memory is to
    stay free on a device that is not there.
    """
    found = await _tried(yardstick, meter, start, aim, planned=False)
    if isinstance(found, Begun):
        return found
    first = found
    plan = first.plan
    held = _held_bytes(plan) if plan is not None else 0
    for other in alternatives(start, aim, fixed, candidates, held):
        found = await _tried(yardstick, meter, other, aim, planned=True)
        if isinstance(found, _No) and other.placement != start.placement:
            less = _keeping_less(other, found, aim)
            if less is not None:
                other = less
                found = await _tried(yardstick, meter, other, aim, planned=True)
        if isinstance(found, Begun):
            changes = ", ".join(change_class(start, other)[1])
            note = f"Your profile itself is none to begin with ({first.failure.what}): it began with {changes}."
            return Begun(found.profile, (note,), found.plan)
    raise _nothing_fits(start, aim, fixed, first)


async def _tried(yardstick: Yardstick, meter: EngineMeter, profile: Profile, aim: Aim, *, planned: bool) -> Begun | _No:
    """``planned``: nothing is loaded that the plan says no to. The person's own profile is judged by llama.cpp."""
    plan: MemoryPlan | None = None
    try:
        plan = await yardstick.plan(profile)
        if plan is not None:
            _check_names(plan, aim)
            meter.planned[profile] = plan.streamed_bytes
        no = too_large(plan, aim) if plan is not None else None
        known = await meter.ruled_out(profile, aim) if profile.repack == "on" else None
        if known is not None:
            return _No(known, plan, by_plan=False)
        if no is not None and (planned or _leaves_too_little(plan, aim)):
            return _No(no, plan, by_plan=True)
        await yardstick.load(profile)
        quality = await meter.quality(profile, aim)
        if quality is not None and quality.refused is not None:
            return _No(quality.refused, plan, by_plan=False)
        # Its measurement leaves nothing in force.
        await yardstick.load(profile)
    except EngineDied as error:
        meter.remember(profile, error)
        return _No(error.failure, plan, by_plan=error.end is not None and error.end.out_of_memory)
    except Refused as error:
        return _No(error.failure, plan, by_plan=plan is not None and not plan.fits)
    return Begun(profile, (), plan)


def _check_names(plan: MemoryPlan, aim: Aim) -> None:
    """Raises JobError."""
    there = [device.device for device in plan.devices]
    for name, _ in aim.leave_free_on:
        if name.casefold() not in (each.casefold() for each in there):
            raise JobError(
                f"--leave {printable(name)}: there is no such device",
                f"On this machine there {'is' if len(there) == 1 else 'are'} {', '.join(map(printable, there))}.",
                "Name one of them, or say --leave SIZE for all.",
            )


def _held_bytes(plan: MemoryPlan) -> int:
    """Of the weights, what stays in RAM, or could: what is streamed leaves no room for more."""
    ram = next((device for device in plan.devices if device.device == RAM), None)
    if plan.streamed_bytes or ram is None or ram.free_bytes is None:
        return plan.mapped_bytes - plan.streamed_bytes
    # Copied weights would be mapped.
    return max(0, ram.free_bytes - (ram.needed_bytes - ram.weights_bytes))


def _keeping_less(profile: Profile, no: _No, aim: Aim) -> Profile | None:
    """Where parts that always stay, such as the embedding, have taken what was to be free; None: it is not that."""
    leave = aim.leave_free(RAM)
    if not isinstance(profile.placement, Keep) or no.plan is None or not no.by_plan or not leave:
        return None
    ram = next((device for device in no.plan.devices if device.device == RAM), None)
    if ram is None or ram.free_bytes is None:
        return None
    stays = ram.needed_bytes + no.plan.mapped_bytes - no.plan.streamed_bytes
    missing = leave + stays - ram.free_bytes
    if not 0 < missing < profile.placement.bytes:
        return None
    return msgspec.structs.replace(profile, placement=kept(profile.placement.bytes - missing))


def _leaves_too_little(plan: MemoryPlan | None, aim: Aim) -> bool:
    """Whether it is the person's wish that rules it out: llama.cpp knows nothing of that."""
    if plan is None:
        return False
    return any(aim.leave_free(device.device) for device in plan.devices) and too_large(plan, aim) is not None


def _nothing_fits(start: Profile, aim: Aim, fixed: Collection[str], no: _No) -> JobError:
    """Says what would fit, and where wishes contradict each other or the machine, names both."""
    failure, plan = no.failure, no.plan
    if not no.by_plan or plan is None:
        return JobError(failure.what, failure.why, failure.next)
    wanted = {device.device: leave for device in plan.devices if (leave := aim.leave_free(device.device))}
    held = [key for key in _PLACING if key in fixed and _matters(key, start, plan)]
    would = [entry.text for entry in plan.would_fit]
    if {"placement", "load_mode"} & set(held):
        would.append("Streamed from disk it may fit: that takes load_mode = auto and placement = auto.")
    next = " ".join(would) or failure.next
    if not wanted:
        name = printable(start.model.rsplit("/", 1)[-1])
        why = f"{failure.why} Fixed: {', '.join(held)}." if held else failure.why
        return JobError(f"{name} does not fit on this machine in any way that may be tried", why, next)
    for device in plan.devices:
        leave = wanted.get(device.device, 0)
        if device.total_bytes is not None and leave >= device.total_bytes:
            what = f"--leave and this machine contradict each other on {device.device}"
            why = f"{leave / _MIB:,.0f} MiB are to stay free, and it has {device.total_bytes / _MIB:,.0f} MiB in all."
            return JobError(what, why, "Leave less free.")
    leaves = ", ".join(f"{leave / _MIB:,.0f} MiB on {device}" for device, leave in wanted.items())
    if held:
        keys = ", ".join(f"{key} = {getattr(start, key)}" for key in held)
        return JobError(f"--leave ({leaves}) and --fix ({keys}) contradict each other", failure.why, next)
    return JobError(f"--leave ({leaves}) and this model contradict each other", failure.why, f"Leave less free. {next}")


def _matters(key: str, start: Profile, plan: MemoryPlan) -> bool:
    """Whether another value of this key could make it fit."""
    if key == "n_gpu_layers":
        return plan.offloaded_layers > 0
    if key == "load_mode":
        return start.load_mode not in ("auto", "mmap")
    if key == "placement":
        return start.placement == "off" or bool(plan.streamed_bytes)
    return key != "repack" or start.repack == "on"

"""Where a tune may begin if the person's own profile does not fit, or costs more than is allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from pagewise.jobs.tune import Aim
from pagewise.settings import Keep, MemoryBytes, Profile, memory_bytes
from pagewise.tuner.candidate import Candidate

_MIB, _GIB = 1024**2, 1024**3
_MOST_DIGITS = 999_999
"""As many digits as a profile takes."""
_RAM = "RAM"


def room_for(profile: Profile, aim: Aim, accelerators: Sequence[str]) -> Profile:
    """With room in the context for what is measured, nothing drawn by chance, and the probe off: a cost that all
    candidates share. ``fit`` leaves free what the aim wants to stay free: of several devices the least, since it has
    but one margin for all; the plan rules out what leaves another too little.
    """
    needed = aim.depth + aim.n_prompt + aim.n_output + 1
    n_ctx = profile.n_ctx if profile.n_ctx == 0 or profile.n_ctx >= needed else -(-needed // 256) * 256
    sampling = msgspec.structs.replace(profile.sampling, temperature=0.0)
    least = min((aim.leave_free(name) for name in accelerators), default=aim.leave_free_bytes)
    margin = _margin(profile, least)
    return msgspec.structs.replace(profile, n_ctx=n_ctx, probe_every=0, sampling=sampling, fit_margin=margin)


def alternatives(
    start: Profile, aim: Aim, fixed: Collection[str], candidates: tuple[Candidate, ...], kept_bytes: int
) -> Iterator[Profile]:
    """What may be begun with instead, the smallest change first; nothing that is fixed is changed.

    ``kept_bytes``: of weights that are mapped, what stays in memory or could.
    """
    device: dict[str, object] = {"n_gpu_layers": "fit"}
    ram: dict[str, object] = {"load_mode": "auto", "repack": "off", "placement": "auto"}
    leave = aim.leave_free(_RAM)
    if leave and kept_bytes:
        ram["placement"] = kept(kept_bytes - leave)
    seen = {start}
    quality: dict[str, object] = {"cache_type_k": "f16", "cache_type_v": "f16"} if aim.tries_kv_types else {}
    repack: dict[str, object] = {"repack": "off"}
    most = max((size for name, size in aim.leave_free_on if name.casefold() != _RAM.casefold()), default=0)
    # Where one device is to have more left than the others, all of them get that margin at last.
    wide: dict[str, object] = {**device, "fit_margin": _margin(start, most)}
    for changes in (repack, device, ram, {**device, **ram}, wide, {**wide, **ram}, quality):
        tried = _with(start, changes, fixed)
        if tried not in seen:
            seen.add(tried)
            yield tried
    if {"model", "quant"} & set(fixed):
        return
    own = next((each for each in candidates if each.source == (start.model, start.quant)), None)
    for other in sorted(candidates, key=lambda each: -each.bits_per_weight):
        if other is own:
            continue
        named = msgspec.structs.replace(start, model=other.model, quant=other.quant)
        for changes in (dict[str, object](), {**device, **ram, **quality}, {**wide, **ram, **quality}):
            tried = _with(named, changes, fixed)
            if tried not in seen:
                seen.add(tried)
                yield tried


def kept(bytes: int) -> Keep:
    """So much at most, as a profile says it; at least 1 MiB."""
    mib = max(1, bytes // _MIB)
    return Keep(f"{mib}MiB" if mib <= _MOST_DIGITS else f"{min(bytes // _GIB, _MOST_DIGITS)}GiB")


def _margin(profile: Profile, free: int) -> MemoryBytes:
    """The profile's own, or so much where that is more."""
    if free <= memory_bytes(profile.fit_margin):
        return profile.fit_margin
    mib, gib = -(-free // _MIB), -(-free // _GIB)
    return f"{mib}MiB" if mib <= _MOST_DIGITS else f"{min(gib, _MOST_DIGITS)}GiB"


def _with(profile: Profile, changes: dict[str, object], fixed: Collection[str]) -> Profile:
    free = {key: value for key, value in changes.items() if key not in fixed}
    if free.get("repack") == "off" and profile.repack != "on":
        del free["repack"]
    if free.get("load_mode") == "auto" and profile.load_mode == "mmap":
        del free["load_mode"]
    return msgspec.structs.replace(profile, **free)

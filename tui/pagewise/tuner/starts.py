"""Where a tune may begin if the person's own profile does not fit, or costs more than is allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from pagewise.jobs.tune import Aim
from pagewise.settings import Keep, Profile, memory_bytes
from pagewise.tuner.candidate import Candidate

_MIB, _GIB = 1024**2, 1024**3
_MOST_DIGITS = 999_999
"""As many digits as a profile takes."""
_RAM = "RAM"


def room_for(profile: Profile, aim: Aim) -> Profile:
    """With room in the context for what is measured, nothing drawn by chance, and the probe off: a cost that all
    candidates share. ``fit`` leaves free what the aim wants to stay free.
    """
    needed = aim.depth + aim.n_prompt + aim.n_output + 1
    n_ctx = profile.n_ctx if profile.n_ctx == 0 or profile.n_ctx >= needed else -(-needed // 256) * 256
    sampling = msgspec.structs.replace(profile.sampling, temperature=0.0)
    devices = max([aim.leave_free_bytes, *(size for name, size in aim.leave_free_on if name != _RAM)])
    margin = profile.fit_margin
    if devices > memory_bytes(margin):
        mib, gib = -(-devices // _MIB), -(-devices // _GIB)
        margin = f"{mib}MiB" if mib <= _MOST_DIGITS else f"{min(gib, _MOST_DIGITS)}GiB"
    return msgspec.structs.replace(profile, n_ctx=n_ctx, probe_every=0, sampling=sampling, fit_margin=margin)


def alternatives(
    start: Profile, aim: Aim, fixed: Collection[str], candidates: tuple[Candidate, ...], kept_bytes: int
) -> Iterator[Profile]:
    """What may be begun with instead, the smallest change first; nothing that is fixed is changed.

    ``kept_bytes``: of a model that is streamed, what would stay in memory.
    """
    device: dict[str, object] = {"n_gpu_layers": "fit"}
    ram: dict[str, object] = {"load_mode": "auto", "repack": "off", "placement": "auto"}
    leave = aim.leave_free(_RAM)
    if leave and kept_bytes:
        ram["placement"] = Keep(f"{max(1, (kept_bytes - leave) // _MIB)}MiB")
    seen = {start}
    quality: dict[str, object] = {"cache_type_k": "f16", "cache_type_v": "f16"} if aim.tries_kv_types else {}
    repack: dict[str, object] = {"repack": "off"}
    for changes in (repack, device, ram, {**device, **ram}, quality):
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
        for changes in (dict[str, object](), {**device, **ram, **quality}):
            tried = _with(named, changes, fixed)
            if tried not in seen:
                seen.add(tried)
                yield tried


def _with(profile: Profile, changes: dict[str, object], fixed: Collection[str]) -> Profile:
    free = {key: value for key, value in changes.items() if key not in fixed}
    if free.get("repack") == "off" and profile.repack != "on":
        del free["repack"]
    if free.get("load_mode") == "auto" and profile.load_mode == "mmap":
        del free["load_mode"]
    return msgspec.structs.replace(profile, **free)

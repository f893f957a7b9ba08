"""What is decided of a model's placement before it is loaded, from the header of its file and the memory there is."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import msgspec

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import threads_of
from pagewise.engine.llamacpp.model import ModelFile
from pagewise.engine.llamacpp.plan import plan_context
from pagewise.engine.llamacpp.unread import unread
from pagewise.engine.memory import available_bytes
from pagewise.placement.available import room_for_file
from pagewise.placement.file_system import not_steerable
from pagewise.placement.plan import layout
from pagewise.placement.prefill import prefill_batch
from pagewise.settings import Keep, Profile

_CLEARLY = 0.7
DEFAULT_UBATCH = Profile("").n_ubatch


class Foreseen(NamedTuple):
    """``profile`` as it will be loaded. ``notes``: what the person should know of it."""

    profile: Profile
    streams: bool = False
    """Whether layers will be streamed from the start."""
    locks: bool = False
    """Whether what is kept is to be locked."""
    unread: bool = False
    """Whether the file is to be mapped without reading it."""
    notes: tuple[str, ...] = ()

    def loading(self) -> AbstractContextManager[bool]:
        """Around the load itself."""
        return unread(by_granule=self.streams) if self.unread else nullcontext(False)


def foresee(file: ModelFile, profile: Profile) -> Foreseen:
    """Whether the file will fit, and what follows."""
    if profile.placement == "off" or profile.load_mode in ("none", "direct"):
        # Such weights are refused where they do not fit.
        return Foreseen(profile)
    room = room_for_file()
    tensors = frozenset(tensor.name for header in file.headers for tensor in header.tensors)
    layers = layout(file.headers, tensors)
    # Elsewhere than on Linux only to say what cannot be done.
    room = room_within(available_bytes() if room is None else room, profile)
    if room is None or layers.bytes <= _CLEARLY * room:
        return Foreseen(profile)
    if profile.n_gpu_layers != 0 and any(device.kind in ("gpu", "igpu") for device in library.devices()):
        # How much of it goes to the device shows when it is there; reading all of the file first would be of no use.
        return Foreseen(profile, unread=layers.bytes > room)
    context = plan_context(file, profile)
    taken = context.cache + context.compute if context is not None and not isinstance(profile.placement, Keep) else 0
    if layers.bytes <= room - taken:
        return Foreseen(profile)
    if reason := why_not(file):
        return Foreseen(profile, notes=(reason,))
    notes = []
    if profile.repack == "on":
        notes.append("The weights are not repacked: a repacked copy of a model larger than memory cannot be streamed.")
    if profile.load_mode == "mlock":
        notes.append("Not all of the model can be locked in memory: what is kept of it is.")
    changed = msgspec.structs.replace(
        profile, repack="off", load_mode="mmap" if profile.load_mode == "mlock" else profile.load_mode
    )
    if profile.n_ubatch == DEFAULT_UBATCH:
        n_ubatch = _prefill_batch(file, changed, layers.bytes - (room - taken), room)
        if n_ubatch != profile.n_ubatch:
            notes.append(f"A prompt is evaluated {n_ubatch:,} tokens at a time, since every pass reads from disk.")
        changed = msgspec.structs.replace(changed, n_ubatch=n_ubatch, n_batch=max(profile.n_batch, n_ubatch))
    return Foreseen(changed, streams=True, locks=profile.load_mode == "mlock", unread=True, notes=tuple(notes))


def room_within(room: int | None, profile: Profile) -> int | None:
    """``room``, or what the profile allows if that is less."""
    if room is None or not isinstance(profile.placement, Keep):
        return room
    return min(room, profile.placement.bytes)


def why_not(file: ModelFile) -> str:
    """Why the layers of this file cannot be streamed here; empty where they can."""
    if not sys.platform.startswith("linux"):
        return (
            "The model is larger than the memory it can have. Layers are streamed on Linux alone: this system has no "
            "way to give back pages of a file. It pages as it likes; a smaller quant that fits would be faster."
        )
    if library.tensor_name is None:
        return "The model is larger than memory, and this llama.cpp build does not let its layers be followed."
    names = {name for header in file.headers if (name := not_steerable(header.path))}
    if names:
        return (
            f"The model is larger than the memory it can have, and its file is on {' and '.join(sorted(names))}, where "
            "what is kept and dropped is not ours to say: it is paged as the system likes. Copy it to a local disk."
        )
    return ""


def _prefill_batch(file: ModelFile, profile: Profile, streamed: int, room: int) -> int:
    def compute_bytes(n_ubatch: int) -> int | None:
        batch = max(profile.n_batch, n_ubatch)
        plan = plan_context(file, msgspec.structs.replace(profile, n_ubatch=n_ubatch, n_batch=batch))
        return plan.compute if plan is not None else None

    experts, used = file.number("expert_count", 0), file.number("expert_used_count", 0)
    weights = 0.0
    for header in file.headers:
        for tensor in header.tensors:
            share = used / experts if experts and "exps." in tensor.name else 1.0
            weights += share * tensor.n_weights
    n_ctx = min(profile.n_ctx or file.number("context_length", 0), file.number("context_length", 0) or profile.n_ctx)
    cores = threads_of(profile, file.bytes).batch
    return prefill_batch(profile.n_ubatch, n_ctx, streamed, weights, cores, room, compute_bytes)

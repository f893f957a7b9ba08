"""What would fit where a profile does not: fewer layers on devices, a shorter context, a smaller quant."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from pagewise.engine.fit import Fitted
from pagewise.engine.llamacpp.model import ModelFile
from pagewise.engine.llamacpp.plan import Sizes
from pagewise.jobs.plan import RAM, WouldFit
from pagewise.settings import Profile

_STEP = 256
_LEVELS = (
    ("Q8_0", 8.5),
    ("Q6_K", 6.56),
    ("Q5_K_M", 5.7),
    ("Q4_K_M", 4.89),
    ("Q4_K_S", 4.67),
    ("IQ4_XS", 4.46),
    ("Q3_K_M", 4.0),
    ("Q2_K", 3.16),
)
"""Bits per weight of whole files, as llama.cpp's quantize lists them for an 8 B model."""


def remedies(
    file: ModelFile,
    profile: Profile,
    sizes: Sizes,
    short: Mapping[str, int],
    fits: Callable[[Profile], bool],
    place: Callable[[Profile], Fitted],
) -> tuple[WouldFit, ...]:
    """``short``: bytes by which each device is too small; ``fits`` and ``place`` plan a changed profile."""
    found = []
    if profile.n_gpu_layers != "fit" and any(device != RAM for device in short):
        found.append(_fewer_layers(profile, fits, place))
    found.append(_shorter_context(profile, sizes, fits))
    found.append(_smaller_quant(file, sizes, short))
    return tuple(entry for entry in found if entry is not None)


def _fewer_layers(
    profile: Profile, fits: Callable[[Profile], bool], place: Callable[[Profile], Fitted]
) -> WouldFit | None:
    wanted = msgspec.structs.replace(profile, n_gpu_layers="fit")
    if not fits(wanted):
        return None
    placed = place(wanted)
    same = placed.profile
    plain = same.tensor_split == profile.tensor_split and same.tensor_overrides == profile.tensor_overrides
    if plain and isinstance(same.n_gpu_layers, int):
        return WouldFit("n_gpu_layers", str(same.n_gpu_layers), f"{same.n_gpu_layers} layers on GPUs fit.")
    return WouldFit("n_gpu_layers", "fit", placed.note.removeprefix("n_gpu_layers = fit: ").capitalize())


def _shorter_context(profile: Profile, sizes: Sizes, fits: Callable[[Profile], bool]) -> WouldFit | None:
    low, high = 0, -(-sizes.n_ctx // _STEP)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(msgspec.structs.replace(profile, n_ctx=middle * _STEP)):
            low = middle
        else:
            high = middle
    if not low:
        return None
    return WouldFit("n_ctx", str(low * _STEP), f"A context of {low * _STEP:,} tokens is the largest that fits.")


def _smaller_quant(file: ModelFile, sizes: Sizes, short: Mapping[str, int]) -> WouldFit | None:
    tensors = [tensor for header in file.headers for tensor in header.tensors]
    weights = sum(tensor.n_weights for tensor in tensors)
    bits = 8 * sum(tensor.bytes for tensor in tensors) / max(1, weights)
    share = 1.0
    for device, missing in short.items():
        held = sizes.copied_bytes if device == RAM else sizes.devices[device].weights if device in sizes.devices else 0
        share = min(share, (held - missing) / held if held else 0.0)
    level = next((entry for entry in _LEVELS if entry[1] <= bits * share), None)
    if level is None:
        return None
    return WouldFit("model", "", f"The model at {level[0]} fits: {level[1]:g} bits per weight instead of {bits:.2f}.")

"""Whether a model fits beside those that are held already: a look before the load, which alone is sure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pagewise.host.gauges import model_parts, system_instrument
from pagewise.messages import ModelInfo
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.kv_cache import kv_cache
from pagewise.placement.available import room_for_file
from pagewise.readings import Devices
from pagewise.settings import Profile

_GUIDE_BYTES = 256 * 1024 * 1024
_RAM_MARGIN = 512 * 1024 * 1024
_DEVICE_MARGIN = 1024 * 1024 * 1024
"""Compute buffers, and what another process's driver takes."""


class Need(NamedTuple):
    """About what a profile takes, in bytes, pages of the file included."""

    ram: int
    device: int


def need(profile: Profile, *, has_device: bool) -> Need | None:
    """About what ``profile`` takes, by its file's header; None where that cannot be told: the load will."""
    if profile.model == "guide":
        return Need(_GUIDE_BYTES, _GUIDE_BYTES if has_device else 0)
    path = Path(profile.model).expanduser()
    try:
        header = read_header(path, complete=False)
        weights = sum(part.stat().st_size for part in model_parts(path))
    except (GgufError, OSError):
        return None
    n_ctx = profile.n_ctx or header.number("context_length") or 0
    known = kv_cache(header)
    cache = (
        0
        if isinstance(known, str)
        else known.bytes_at(
            n_ctx, profile.cache_type_k, profile.cache_type_v, n_ubatch=profile.n_ubatch, swa_full=profile.swa_full
        )
    )
    n_layer = (header.number("block_count") or 0) + 1
    layers = profile.n_gpu_layers if isinstance(profile.n_gpu_layers, int) else n_layer
    share = min(1.0, layers / n_layer) if has_device else 0.0
    total = weights + cache
    return Need(int(total * (1 - share)), int(total * share))


def fits_beside(profile: Profile, held: Iterable[ModelInfo], devices: Devices) -> bool:
    """Whether ``profile`` fits while the models in ``held`` stay where they are, their pages of files included."""
    wanted = need(profile, has_device=bool(devices.devices))
    if wanted is None:
        return True
    mapped = sum(layer.mapped_bytes for model in held for layer in model.placement)
    ram = free_ram()
    if ram is not None and wanted.ram + _RAM_MARGIN > ram - mapped:
        return False
    free = [
        device.total_bytes - device.used_bytes
        for device in devices.devices
        if device.total_bytes is not None and device.used_bytes is not None
    ]
    return not free or not wanted.device or wanted.device + _DEVICE_MARGIN <= sum(free)


def free_ram() -> int | None:
    """RAM that could be had, page cache included; None where the system does not say."""
    room = room_for_file()
    if room is not None:
        return room
    system = system_instrument(None)
    try:
        return system.sample().available_bytes
    finally:
        system.close()

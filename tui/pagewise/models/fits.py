"""Whether a model has room on this machine now: a cheap estimate, made of file sizes and the memory that is free."""

from __future__ import annotations

import msgspec

from pagewise.jobs.catalog import Catalog, CatalogFile, Fit, Room
from pagewise.jobs.pull import Offers

RESERVE = 512 * 1024**2
"""Left aside for compute buffers and the driver: what a plan counts exactly."""


def fit(need_bytes: int, room: Room) -> Fit:
    """Where weights and KV cache of ``need_bytes`` have room."""
    vram = max((room.vram_free_bytes or 0) - RESERVE, 0)
    ram = max(room.ram_available_bytes - RESERVE, 0)
    if need_bytes <= vram:
        return "vram"
    if need_bytes <= ram:
        return "ram"
    return "both" if need_bytes <= vram + ram else "streams"


def with_room(catalog: Catalog, room: Room) -> Catalog:
    """The catalog with every quant level judged against ``room``."""
    models = tuple(
        msgspec.structs.replace(model, levels=tuple(_judged(level, room) for level in model.levels))
        for model in catalog.models
    )
    return msgspec.structs.replace(catalog, models=models, room=room)


def _judged(level: CatalogFile, room: Room) -> CatalogFile:
    return msgspec.structs.replace(level, fit=fit(level.need_bytes, room))


def offers_with_room(offers: Offers, room: Room) -> Offers:
    """The offers judged by their size alone."""
    levels = tuple(msgspec.structs.replace(level, fit=fit(level.bytes, room)) for level in offers.levels)
    return msgspec.structs.replace(offers, levels=levels, room=room)

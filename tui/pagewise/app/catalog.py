"""The catalog as a person wants to see it: sorted, filtered, and in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from pagewise.app.figures import size
from pagewise.jobs.catalog import Catalog, CatalogFile, CatalogModel, Fit, Room

Sort = Literal["name", "size", "date"]
SORTS: tuple[Sort, ...] = ("name", "size", "date")
FITS: dict[Fit, str] = {
    "vram": "fits in VRAM",
    "ram": "fits in RAM",
    "both": "fits in VRAM + RAM",
    "streams": "streams from disk",
    "unknown": "n/a",
}
"""What each state says to a person."""


def chosen(catalog: Catalog, sort: Sort = "name", words: str = "", fits: bool = False) -> list[CatalogModel]:
    """The models with those quant levels that hold all ``words``; with ``fits``, those that need no streaming.

    ``name`` goes from A, ``size`` from the largest, ``date`` from the newest; a model counts as its first level then.
    """
    found = []
    wanted = words.casefold().split()
    for model in catalog.models:
        about = f"{model.name} {model.architecture} ".casefold()
        levels = [
            level
            for level in model.levels
            if not (fits and level.fit == "streams") and all(word in about + _text(level) for word in wanted)
        ]
        if levels:
            found.append(msgspec.structs.replace(model, levels=tuple(_sorted(levels, sort))))
    if sort == "size":
        found.sort(key=lambda model: -model.levels[0].bytes)
    elif sort == "date":
        found.sort(key=lambda model: -model.levels[0].modified_s)
    return found


def parameters(model: CatalogModel) -> str:
    """How many weights, such as ``7.6 B``."""
    n = model.n_params
    if n >= 1e9:
        return f"{n / 1e9:.1f} B" if n < 99.5e9 else f"{n / 1e9:.0f} B"
    return f"{n / 1e6:.1f} M" if n < 99.5e6 else f"{n / 1e6:.0f} M"


def room_in_words(room: Room | None) -> str:
    """What there is, such as ``14.2 GiB of RAM free``."""
    if room is None:
        return ""
    ram = f"{size(room.ram_available_bytes)} of RAM free"
    return ram if room.vram_free_bytes is None else f"{size(room.vram_free_bytes)} of VRAM and {ram}"


def _sorted(levels: Iterable[CatalogFile], sort: Sort) -> list[CatalogFile]:
    if sort == "size":
        return sorted(levels, key=lambda level: -level.bytes)
    return sorted(levels, key=lambda level: -level.modified_s) if sort == "date" else list(levels)


def _text(level: CatalogFile) -> str:
    return f"{level.quant} {level.source} {level.name} {level.path}".casefold()

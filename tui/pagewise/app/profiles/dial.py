"""The quant levels of a model: those that are on the machine, and those that could be made of them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pagewise.app.figures import size
from pagewise.app.profiles.rows import GUIDE
from pagewise.app.spans import Line, Span, clip
from pagewise.app.visible import visible_line
from pagewise.jobs.catalog import Catalog, CatalogFile
from pagewise.settings import Profile

GUIDE_LEVELS = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
LADDER = {"Q2_K": 3.2, "Q3_K_M": 4.0, "Q4_K_M": 4.9, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5}
"""Levels that are offered to be made where they are missing, with about how many bits a weight they take."""
_LEAST_GAIN = 0.9
"""A level is offered only where it has fewer bits than this share of the best one that is there."""


class Level(NamedTuple):
    """One stop of the dial."""

    quant: str
    path: str
    """What a profile's ``model`` takes; of a level to be made, the file it would be made of."""
    bits: float
    bytes: int | None
    to_make: bool = False


def levels(profile: Profile, catalog: Catalog | None) -> tuple[Level, ...]:
    """All stops for the profile's model, fewest bits first; none where nothing is known of it."""
    if profile.model == GUIDE:
        return tuple(Level(quant, GUIDE, LADDER.get(quant, 16.0), None) for quant in GUIDE_LEVELS)
    found = _siblings(profile, catalog)
    if not found:
        return ()
    there = [Level(file.quant, file.path, file.bits_per_weight or 0.0, file.bytes) for file in found]
    best = max(there, key=lambda level: level.bits)
    missing = [
        Level(quant, best.path, bits, None, to_make=True)
        for quant, bits in LADDER.items()
        if all(level.quant != quant for level in there) and bits < _LEAST_GAIN * best.bits
    ]
    return tuple(sorted([*there, *missing], key=lambda level: (level.bits, level.path)))


def _siblings(profile: Profile, catalog: Catalog | None) -> tuple[CatalogFile, ...]:
    for model in catalog.models if catalog is not None else ():
        for level in model.levels:
            if profile.model == level.path or any(profile.model == copy.path for copy in level.copies):
                return model.levels
    return ()


def at(profile: Profile, stops: tuple[Level, ...], catalog: Catalog | None) -> int | None:
    """Which stop the profile stands at; None if at none of them."""
    if profile.model == GUIDE:
        now = profile.quant or GUIDE_LEVELS[-1]
        return next((index for index, level in enumerate(stops) if level.quant == now), None)
    file = next((file for file in _siblings(profile, catalog) if _is(profile, file)), None)
    if file is None:
        return None
    return next((index for index, level in enumerate(stops) if not level.to_make and level.path == file.path), None)


def _is(profile: Profile, file: CatalogFile) -> bool:
    return profile.model == file.path or any(profile.model == copy.path for copy in file.copies)


def stepped(profile: Profile, level: Level) -> Profile:
    """The profile at that level, which is there."""
    if profile.model == GUIDE:
        return msgspec.structs.replace(profile, quant=None if level.quant == GUIDE_LEVELS[-1] else level.quant)
    return msgspec.structs.replace(profile, model=level.path, quant=None)


def draw_dial(stops: tuple[Level, ...], chosen: int | None, width: int) -> Line:
    """One line: the chosen one in brackets, those to be made with a plus."""
    spans: list[Span] = [("quant   ", "muted")]
    for index, level in enumerate(stops):
        name = visible_line(level.quant) + ("+" if level.to_make else "")
        here = index == chosen
        spans.append((f"[{name}]" if here else f" {name} ", "strong accent" if here else "muted"))
    known = stops[chosen].bytes if chosen is not None else None
    if known is not None:
        spans += [("   ", "text"), (size(known), "text"), (" on disk", "muted")]
    return clip((*spans, ("   ← →", "muted")), width)

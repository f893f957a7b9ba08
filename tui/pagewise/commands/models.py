"""``pagewise models``: the models that are on the machine already, with their quant levels and what fits."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from pagewise.app.catalog import FITS, Sort, chosen, parameters, room_in_words
from pagewise.app.figures import ago, count, size
from pagewise.app.visible import at_home, visible_line
from pagewise.commands.job import ask_host
from pagewise.commands.output import as_json
from pagewise.jobs.catalog import Catalog, CatalogFile, CatalogModel, FindModels, ModelsFound

_FIT = max(map(len, FITS.values()))


def run(sort: Sort, words: str, fits: bool, json: bool) -> int:
    """Look, write, and return the exit status."""
    found = ask_host(FindModels, ModelsFound)
    if isinstance(found, int):
        return found
    models = chosen(found.catalog, sort, words, fits)
    if json:
        print(as_json(msgspec.structs.replace(found.catalog, models=tuple(models))))
    else:
        print("\n".join(lines(found.catalog, models, time.time())))
    return 0


def lines(catalog: Catalog, models: list[CatalogModel], now: float) -> list[str]:
    """What a person reads."""
    written: list[str] = []
    for model in models:
        written += [_heading(model), *(line for level in model.levels for line in _level(level, now)), ""]
    if not models:
        written += [*_nothing(catalog), ""]
    written += [f"{other.kind:<11}{size(other.bytes):>9}  {at_home(Path(other.path))}" for other in catalog.others]
    written += [""] if catalog.others else []
    for unusable in catalog.unusable:
        written.append(f"not usable: {visible_line(unusable.failure.what)}. {visible_line(unusable.failure.why)}")
        written.append(f"            {at_home(Path(unusable.path))}")
    written += [""] if catalog.unusable else []
    written += [f"{place.source}: {visible_line(place.why)}" for place in catalog.places if place.why]
    n = sum(len(model.levels) for model in models)
    written.append(f"{count(n)} file{'' if n == 1 else 's'}; {room_in_words(catalog.room)}.")
    return written


def _heading(model: CatalogModel) -> str:
    context = f"context {count(model.n_ctx_train)}" if model.n_ctx_train else ""
    experts = f"{model.n_expert} experts" if model.n_expert else ""
    about = " · ".join(filter(None, (model.architecture, parameters(model), experts, context)))
    return f"{visible_line(model.name)}   {visible_line(about)}"


def _level(level: CatalogFile, now: float) -> list[str]:
    bits = "" if level.bits_per_weight is None else f"{level.bits_per_weight:.2f} bits"
    copies = sum(copy.takes_space for copy in level.copies)
    also = f" (and {copies} more cop{'y' if copies == 1 else 'ies'})" if copies else ""
    where = f"{level.source}: {visible_line(level.name)}{also}"
    age = ago(now - level.modified_s)
    return [
        f"  {level.quant:<9}{bits:>11}{size(level.bytes):>10}  {FITS[level.fit]:<{_FIT}}  {age:>12}  {where}",
        f"    {at_home(Path(level.path))}",
        *([f"    {visible_line(level.note)}"] if level.note else []),
    ]


def _nothing(catalog: Catalog) -> list[str]:
    if catalog.models:
        return ["No model is like that: try fewer words, or leave --fits out."]
    return [
        "No GGUF model was found on this machine.",
        "  Fetch one:             pagewise pull org/repo:Q4_K_M",
        f"  Name your own folders: one a line in {visible_line(catalog.own_folders)}, or PAGEWISE_MODELS=folder:folder",
        "  Open a file:           pagewise --model FILE",
    ]

"""From files to models: parts put together, names of one file and copies told apart, quant levels under their model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pagewise.failure import Failure
from pagewise.jobs.catalog import CatalogFile, CatalogModel, Copy, OtherFile, TypeBytes, Unusable
from pagewise.models.catalog.facts import Facts
from pagewise.models.catalog.walk import Found
from pagewise.models.gguf import printable
from pagewise.models.quant_level import disagree, named_level, quant_level, without_level
from pagewise.models.split import PartName, part_name

_NO_NAMES = frozenset({"", "model", "models", "hf", "workspace", "ggml model", "output", "out", "tmp", "src", "data"})
"""What converters write as a name when nobody gave one."""
_BLOB = re.compile(r"^sha256-[0-9a-f]{64}$")
_SPLIT_NEXT = "Fetch the missing parts into the same folder."


class Grouped(NamedTuple):
    """Everything that was found, in order of name."""

    models: tuple[CatalogModel, ...]
    others: tuple[OtherFile, ...]
    unusable: tuple[Unusable, ...]


class _Whole(NamedTuple):
    """A model file with all its parts, under all its names."""

    parts: Sequence[tuple[Found, Facts]]
    aliases: Sequence[Found]

    @property
    def first(self) -> Found:
        return self.parts[0][0]

    @property
    def facts(self) -> Facts:
        return self.parts[0][1]

    @property
    def size(self) -> int:
        return sum(file.size for file, _ in self.parts)

    @property
    def identity(self) -> tuple[str, ...]:
        return tuple(facts.identity for _, facts in self.parts)


def group(files: Iterable[tuple[Found, Facts]]) -> Grouped:
    """What ``files``, in the order of their places' precedence, come to."""
    wholes, unusable = _whole(_one_each(files))
    others = [_other(whole) for whole in wholes if whole.facts.kind != "model"]
    models = [whole for whole in wholes if whole.facts.kind == "model"]
    same: dict[tuple[str, ...], list[_Whole]] = {}
    for whole in models:
        same.setdefault(whole.identity, []).append(whole)
    grouped: dict[tuple[object, ...], list[list[_Whole]]] = {}
    for copies in same.values():
        grouped.setdefault(_model_key(copies[0]), []).append(copies)
    found = [_model(levels) for levels in grouped.values()]
    return Grouped(
        tuple(sorted(found, key=lambda model: (model.name.casefold(), model.n_params))),
        tuple(sorted(others, key=lambda other: (other.kind, other.path))),
        tuple(unusable),
    )


def _one_each(files: Iterable[tuple[Found, Facts]]) -> list[tuple[Found, Facts, list[Found]]]:
    """Each file once, with its other names."""
    once: dict[tuple[int, int], tuple[Found, Facts, list[Found]]] = {}
    for file, facts in files:
        known = once.get((file.device, file.inode))
        if known is None:
            once[file.device, file.inode] = (file, facts, [])
        else:
            known[2].append(file)
    return list(once.values())


def _whole(files: list[tuple[Found, Facts, list[Found]]]) -> tuple[list[_Whole], list[Unusable]]:
    wholes: list[_Whole] = []
    unusable: list[Unusable] = []
    split: dict[tuple[str, str, int], dict[int, tuple[Found, Facts, list[Found]]]] = {}
    for entry in files:
        file, facts, aliases = entry
        if facts.parts <= 1 or facts.kind != "model":
            wholes.append(_Whole([(file, facts)], aliases))
            continue
        name = _part_name(file, facts)
        if name is None:
            unusable.append(_misnamed(file, facts))
        else:
            folder = file.path[: -len(Path(file.path).name)]
            split.setdefault((folder, name.prefix, name.parts), {})[name.number] = entry
    for (_, _, count), parts in split.items():
        ordered = [parts[number] for number in sorted(parts)]
        if len(parts) < count:
            unusable.append(_incomplete(ordered[0][0], count, len(parts)))
        else:
            wholes.append(_Whole([(file, facts) for file, facts, _ in ordered], ordered[0][2]))
    return wholes, unusable


def _part_name(file: Found, facts: Facts) -> PartName | None:
    name = part_name(Path(file.path).name)
    return name if name is not None and name.parts == facts.parts and name.number == facts.part + 1 else None


def _misnamed(file: Found, facts: Facts) -> Unusable:
    name = printable(Path(file.path).name)
    failure = Failure(
        f"{name} is one part of {facts.parts:,}",
        "Its name must end in -00001-of-00003.gguf (with its own numbers) for the other parts to be found.",
        "Give the files the names under which they were published.",
    )
    return Unusable(file.path, file.source, failure)


def _incomplete(file: Found, count: int, there: int) -> Unusable:
    name = printable(Path(file.path).name)
    missing = count - there
    are = "is" if missing == 1 else "are"
    what = f"{name} is one part of {count}, and {missing} {are} missing"
    return Unusable(file.path, file.source, Failure(what, f"In its folder there are {there} of {count}.", _SPLIT_NEXT))


def _other(whole: _Whole) -> OtherFile:
    file, facts = whole.first, whole.facts
    assert facts.kind != "model"
    return OtherFile(
        kind=facts.kind,
        path=file.path,
        source=file.source,
        name=_shown_name(file),
        bytes=whole.size,
        modified_s=file.mtime_ns / 1e9,
        of=facts.name,
    )


def _model(levels: list[list[_Whole]]) -> CatalogModel:
    files = sorted((_file(copies) for copies in levels), key=lambda file: (-(file.bits_per_weight or 0), file.path))
    largest = max((copies[0] for copies in levels), key=lambda whole: whole.size)
    facts = largest.facts
    return CatalogModel(
        name=_model_name(largest),
        architecture=facts.architecture,
        n_params=max(sum(facts.n_params for _, facts in copies[0].parts) for copies in levels),
        n_layer=facts.n_layer,
        n_ctx_train=facts.n_ctx_train,
        n_expert=facts.n_expert or None,
        levels=tuple(files),
    )


def _file(copies: list[_Whole]) -> CatalogFile:
    whole = copies[0]
    file, facts = whole.first, whole.facts
    n_params = sum(facts.n_params for _, facts in whole.parts)
    tensor_bytes = sum(facts.tensor_bytes for _, facts in whole.parts)
    sizes: dict[str, int] = {}
    for _, part in whole.parts:
        for kind, size in part.types:
            sizes[kind] = sizes.get(kind, 0) + size
    level = quant_level(facts.stated, _main(whole))
    named = named_level(_file_name(file))
    aliases = [Copy(alias.path, alias.source, _shown_name(alias), False) for alias in whole.aliases]
    for copy in copies[1:]:
        aliases.append(Copy(copy.first.path, copy.first.source, _shown_name(copy.first), True))
        aliases += [Copy(alias.path, alias.source, _shown_name(alias), False) for alias in copy.aliases]
    return CatalogFile(
        path=file.path,
        source=file.source,
        name=_shown_name(file),
        quant=level,
        bits_per_weight=8 * tensor_bytes / n_params if n_params else None,
        mix=tuple(TypeBytes(kind, size) for kind, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))),
        bytes=whole.size,
        parts=len(whole.parts),
        modified_s=max(part.mtime_ns for part, _ in whole.parts) / 1e9,
        kv_bytes=facts.kv_bytes,
        copies=tuple(aliases),
        note=f"Its name says {named}, but its tensors are {level}." if disagree(named, level) else "",
    )


def _main(whole: _Whole) -> str:
    """The type of the part that holds most weights speaks for all."""
    return max(whole.parts, key=lambda part: part[1].n_params)[1].main


def _model_key(whole: _Whole) -> tuple[object, ...]:
    facts = whole.facts
    shape = (facts.architecture, facts.n_layer, facts.n_embd, facts.n_vocab, facts.n_expert)
    name = re.sub(r"gguf|[^0-9a-z]", "", without_level(_model_name(whole)).casefold())
    return (*shape, name)


def _model_name(whole: _Whole) -> str:
    stated = whole.facts.name
    return _fallback_name(whole.first) if stated.casefold() in _NO_NAMES else stated


def _fallback_name(file: Found) -> str:
    base = _file_name(file).removesuffix(".gguf")
    part = part_name(f"{base}.gguf")
    name = without_level(part.prefix if part else base)
    if name.casefold() in _NO_NAMES:
        # A program that names every file alike tells models apart by their folders.
        name = file.name.rsplit("/", 1)[-1]
    return printable(name)


def _file_name(file: Found) -> str:
    """Its name on disk; a blob's is that of its tag."""
    name = file.path.rpartition(os.sep)[2]
    return file.name.rsplit("/", 1)[-1].replace(":", "-") if _BLOB.match(name) else name


def _shown_name(file: Found) -> str:
    return printable(file.name)

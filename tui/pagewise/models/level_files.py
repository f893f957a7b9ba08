"""Where the files of a model's quant levels are: the one that would be made, and those that are there."""

from __future__ import annotations

import os
from pathlib import Path

from pagewise.failure import Failure
from pagewise.models.catalog.places import own_folder
from pagewise.models.gguf import GgufError, GgufHeader, printable, read_header
from pagewise.models.level_names import level_named
from pagewise.models.quant_level import main_type, named_level, quant_level, stated_level, without_level
from pagewise.models.split import part_name

_SUFFIX = ".gguf"
_STORES = ("snapshots", "blobs")
"""Folders in the stores of other programs, in which nobody else should put a file."""


class LevelMissing(Exception):
    """The level that was asked for has not been made; ``failure`` says how to."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what}: {failure.why}")
        self.failure = failure


def level_of(header: GgufHeader) -> str:
    """The quant level of a file, by its tensors and its header."""
    return quant_level(stated_level(header), main_type(header.tensors))


def target_for(source: GgufHeader, level: str) -> Path:
    """Where ``level`` of the model in ``source`` is to be written if nobody says."""
    folder = source.path.absolute().parent
    if folder.name in _STORES or folder.parent.name in _STORES or not os.access(folder, os.W_OK):
        folder = own_folder()
    return folder / f"{_base(source)}-{level}{_SUFFIX}"


def level_file(source: Path, level: str) -> Path:
    """The file of ``level`` of the model in ``source``: that file itself, or one beside it, or one that pagewise made.

    Raises LevelMissing, LevelError and GgufError.
    """
    wanted = level_named(level)
    header = read_header(source)
    if level_of(header) == wanted:
        return source
    base = _base(header)
    for folder in dict.fromkeys((source.absolute().parent, own_folder())):
        for candidate in sorted(folder.glob(f"*{_SUFFIX}")):
            if named_level(candidate.name) == wanted and _is(candidate, base, wanted, header):
                return candidate
    name = printable(source.name)
    raise LevelMissing(
        Failure(
            f"{name} is not there as {wanted}",
            f"The file itself is {level_of(header)}, and neither beside it nor in {printable(str(own_folder()))} is a "
            f"{wanted} of the same model.",
            f"Make it with `pagewise quantize {printable(str(source))} {wanted}`, or leave `quant` out.",
        )
    )


def _is(candidate: Path, base: str, level: str, source: GgufHeader) -> bool:
    split = part_name(candidate.name)
    stem = split.prefix if split else candidate.stem
    if (split is not None and split.number > 1) or without_level(stem) != base:
        return False
    try:
        header = read_header(candidate)
    except GgufError:
        return False
    return (
        level_of(header) == level
        and header.architecture == source.architecture
        and header.number("block_count") == source.number("block_count")
        and header.number("embedding_length") == source.number("embedding_length")
    )


def _base(header: GgufHeader) -> str:
    """The model's name as part of a file's name, without a level."""
    split = part_name(header.path.name)
    if split is not None:
        return without_level(split.prefix)
    if header.path.suffix == _SUFFIX:
        return without_level(header.path.stem)
    named = header.text("general.name") or header.path.stem
    safe = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in printable(named)[:80])
    return without_level(safe.strip("-.") or "model")

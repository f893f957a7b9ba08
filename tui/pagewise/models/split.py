"""Models that are split over several files: which parts there are, and whether all of them are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pagewise.models.gguf import GgufError, GgufHeader, printable, read_header

MAX_PARTS = 1000
_PART = re.compile(r"^(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


class PartName(NamedTuple):
    """What the name of a part says: it is number ``number``, counted from 1, of ``parts``."""

    prefix: str
    number: int
    parts: int


def part_name(name: str) -> PartName | None:
    """The file name ``name`` as that of one part of a split model; None if it is none."""
    match = _PART.match(name)
    return PartName(match["prefix"], int(match["number"]), int(match["count"])) if match else None


def part_paths(header: GgufHeader) -> tuple[Path, ...]:
    """All files of the model that ``header`` is a part of, in order; the one file itself if it is whole.

    Raises GgufError if a part is missing, or the file's name does not say how the others are called.
    """
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return (header.path,)
    name = _PART.match(header.path.name)
    if name is None or int(name["count"]) != count or count > MAX_PARTS:
        raise GgufError(
            f"{printable(header.path.name)} is one part of {count:,}",
            "Its name must end in -00001-of-00003.gguf (with its own numbers) for the other parts to be found.",
            "Give the files the names under which they were published.",
        )
    paths = tuple(
        header.path.with_name(f"{name['prefix']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)
    )
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        listed = ", ".join(printable(part) for part in missing[:3]) + (", …" if len(missing) > 3 else "")
        raise GgufError(
            f"{printable(header.path.name)} is one part of {count}, and {len(missing)} are missing",
            f"Not in its folder: {listed}.",
            "Fetch the missing parts into the same folder.",
        )
    return paths


def read_parts(path: Path) -> tuple[GgufHeader, ...]:
    """The headers of all parts of the model at ``path``, the first part first. Raises GgufError."""
    header = read_header(path)
    paths = part_paths(header)
    return tuple(header if part == header.path else read_header(part) for part in paths)

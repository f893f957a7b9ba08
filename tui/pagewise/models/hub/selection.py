"""Which files of a repository are which quant level, by their names, and which of them a person means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pagewise.failure import Failure
from pagewise.jobs.pull import Offer
from pagewise.models.gguf import printable
from pagewise.models.quant_level import named_level
from pagewise.models.split import part_name

_REPOSITORY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")
_USAGE = "Give it as org/repo or org/repo:QUANT, such as org/Some-Model-GGUF:Q4_K_M."


class HubError(Exception):
    """The hub or the request does not allow it; ``failure`` says it to a person."""

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(f"{what}: {why}")
        self.failure = Failure(what, why, next)


class Listed(NamedTuple):
    """GGUF files of a repository: quant levels, and files that are no model by themselves."""

    levels: tuple[Offer, ...]
    others: tuple[str, ...]


def parse_reference(text: str) -> tuple[str, str]:
    """(repository, quant or file) of ``org/repo[:QUANT]`` or of a page's address on the hub. Raises HubError."""
    text = text.strip()
    if "://" in text:
        return _parse_address(text)
    repository, _, quant = text.partition(":")
    if not _REPOSITORY.match(repository):
        shown = printable(text[:200])
        raise HubError(f"{shown!r} is not the name of a repository", "It has the form org/repo.", _USAGE)
    return repository, quant.strip()


def _parse_address(text: str) -> tuple[str, str]:
    parts = [unquote(part) for part in urlsplit(text).path.split("/") if part]
    repository = "/".join(parts[:2])
    if not _REPOSITORY.match(repository):
        shown = printable(text[:200])
        raise HubError(f"{shown!r} is not the address of a repository", "It has no org/repo in its path.", _USAGE)
    is_file = len(parts) > 4 and parts[2] in ("resolve", "blob")
    return repository, "/".join(parts[4:]) if is_file else ""


def offers(sizes: Mapping[str, int]) -> Listed:
    """The quant levels among files of these sizes (bytes by path), the smallest first."""
    split: dict[tuple[str, str, int], list[str]] = {}
    others: list[str] = []
    for path in sorted(sizes):
        folder, _, name = path.rpartition("/")
        lower = name.lower()
        if "imatrix" in lower:
            others.append(path)
        elif lower.endswith(".gguf"):
            if lower.startswith("mmproj") or "-mmproj" in lower:
                others.append(path)
                continue
            part = part_name(name)
            split.setdefault((folder, part.prefix if part else name, part.parts if part else 1), []).append(path)
    levels = [
        Offer(
            quant=named_level(prefix.removesuffix(".gguf")) or named_level(folder),
            files=tuple(paths),
            bytes=sum(sizes[path] for path in paths),
            kept=False,
        )
        for (folder, prefix, count), paths in split.items()
        if len(paths) == count
    ]
    return Listed(tuple(sorted(levels, key=lambda level: (level.bytes, level.files))), tuple(others))


def choose(repository: str, levels: tuple[Offer, ...], quant: str) -> Offer | None:
    """The one that ``quant`` (a level or a file) means; None if nothing was said and there are several.

    Raises HubError where there is none, or more than one.
    """
    if not levels:
        raise HubError(
            f"{repository} has no GGUF files",
            "It holds a model in another form, or parts of a split file are missing.",
            "Look for a repository of the same model with GGUF in its name.",
        )
    if not quant:
        return levels[0] if len(levels) == 1 else None
    wanted = quant.casefold()
    found = [level for level in levels if level.quant.casefold() == wanted]
    found = found or [level for level in levels if any(wanted in _names(path) for path in level.files)]
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(dict.fromkeys(printable(level.quant or level.files[0]) for level in levels))
        raise HubError(f"{repository} has no {printable(quant)}", f"It has {there}.", "Choose one of these.")
    several = ", ".join(printable(level.files[0]) for level in found)
    raise HubError(
        f"{repository} has {printable(quant)} more than once",
        f"These are of that level: {several}.",
        "Name the file instead: org/repo:FILE.",
    )


def _names(path: str) -> tuple[str, str]:
    return path.casefold(), path.casefold().rpartition("/")[2]

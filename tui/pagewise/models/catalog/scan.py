"""One look at the machine: walk the places, read what is new, and say what there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pagewise.jobs.catalog import Catalog, Place, Unusable
from pagewise.models.catalog.facts import Facts, read_facts
from pagewise.models.catalog.group import group
from pagewise.models.catalog.index import Index
from pagewise.models.catalog.ollama import walk_ollama
from pagewise.models.catalog.places import Root, folders_file, roots
from pagewise.models.catalog.walk import Found, walk
from pagewise.models.gguf import printable

_SAVE_EVERY_S = 5.0
Told = Callable[[int, int, str], None]
"""``told(done, total, name)``: so many of the files that are new have been read."""


def scan(
    places: Iterable[Root] | None = None,
    index: Index | None = None,
    told: Told = lambda done, total, name: None,
    clock: Callable[[], float] = time.monotonic,
) -> Catalog:
    """Everything that is found; ``index`` is brought up to date. Nothing that lies on the disk makes it fail."""
    began = clock()
    index = index if index is not None else Index()
    found, unusable, shown = _walk(roots() if places is None else places, index)
    n_read = _read(found, index, told, clock)
    usable: list[tuple[Found, Facts]] = []
    met: set[tuple[int, int]] = set()
    for file in found:
        facts = index.known(file) or index.passing.get(file.path)
        if isinstance(facts, Facts):
            usable.append((file, facts))
        elif facts is not None and (file.device, file.inode) not in met:
            met.add((file.device, file.inode))
            unusable.append(Unusable(file.path, file.source, facts.failure))
    index.save()
    grouped = group(usable)
    return Catalog(
        models=grouped.models,
        others=grouped.others,
        unusable=(*unusable, *grouped.unusable),
        places=tuple(shown),
        own_folders=printable(str(folders_file())),
        took_ms=1000 * (clock() - began),
        read=n_read,
    )


def _walk(places: Iterable[Root], index: Index) -> tuple[list[Found], list[Unusable], list[Place]]:
    found: list[Found] = []
    unusable: list[Unusable] = []
    shown: list[Place] = []
    seen: set[tuple[int, int]] = set()
    for root in places:
        if root.layout == "ollama":
            walked = walk_ollama(root, index.manifests, index.manifests_now)
        else:
            walked = walk(root, seen)
        if walked is None:
            continue
        found += walked.found
        unusable += walked.unusable
        shown.append(Place(root.source, str(root.path), len(walked.found), walked.why))
    return found, unusable, shown


def _read(found: list[Found], index: Index, told: Told, clock: Callable[[], float]) -> int:
    """Read what the index does not know; of several names of one file only the first is opened."""
    new: dict[tuple[int, int], list[Found]] = {}
    known: dict[tuple[int, int], Found] = {}
    for file in found:
        if index.known(file) is not None:
            known[file.device, file.inode] = file
        else:
            new.setdefault((file.device, file.inode), []).append(file)
    saved_at = clock()
    for done, (which, names) in enumerate(new.items()):
        told(done, len(new), names[0].name)
        facts = index.known(known[which]) if which in known else read_facts(names[0].path)
        assert facts is not None
        for file in names:
            index.keep(file, facts)
        if clock() - saved_at > _SAVE_EVERY_S:
            index.save()
            saved_at = clock()
    if new:
        told(len(new), len(new), "")
    return sum(which not in known for which in new)

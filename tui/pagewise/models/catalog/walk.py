"""GGUF files in folders: names, sizes and times from the directories alone; no file is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pagewise.failure import Failure
from pagewise.jobs.catalog import Unusable
from pagewise.models.catalog.places import Root

_DEPTH = 16
_MAX_FOLDERS = 200_000
_HUB = "models--"
_LEGACY_IMATRIX = (".imatrix", ".dat")


class Found(NamedTuple):
    """A file that may be a model: ``device`` and ``inode`` say which file it is, whatever its names."""

    path: str
    source: str
    name: str
    size: int
    mtime_ns: int
    device: int
    inode: int


class Walked(NamedTuple):
    """What one root holds. ``why``: why it, or a folder in it, could not be read."""

    found: list[Found]
    unusable: list[Unusable]
    why: str


def walk(root: Root, seen: set[tuple[int, int]]) -> Walked | None:
    """All GGUF files under ``root``; None if there is no such folder.

    ``seen`` has the folders that were looked into already, under whatever name; it is added to, so that no loop of
    links and no folder inside another one is walked twice.
    """
    try:
        if not stat.S_ISDIR(root.path.stat().st_mode):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return Walked([], [], _why(str(root.path), error))
    walker = _Walker(root, seen)
    walker.run()
    return Walked(walker.found, walker.unusable, "; ".join(walker.whys))


class _Walker:
    def __init__(self, root: Root, seen: set[tuple[int, int]]) -> None:
        self._root = root
        self._seen = seen
        self._base = str(root.path)
        self._folders = 0
        self.found: list[Found] = []
        self.unusable: list[Unusable] = []
        self.whys: list[str] = []

    def run(self) -> None:
        waiting = [(self._base, 0)]
        while waiting:
            folder, depth = waiting.pop()
            if self._folders >= _MAX_FOLDERS:
                self.whys.append(f"only the first {_MAX_FOLDERS:,} of its folders were looked into")
                return
            try:
                # In order, so that of several names of one file always the same one is the first.
                inside = list(self._folder(folder, depth))
                waiting += [(path, depth + 1) for path in sorted(inside, reverse=True)]
            except OSError as error:
                if len(self.whys) < 3:
                    self.whys.append(_why(folder, error))

    def _folder(self, folder: str, depth: int) -> Iterator[str]:
        is_hub = os.path.basename(folder).startswith(_HUB)  # noqa: PTH119 - ten thousand Paths take a second
        with os.scandir(folder) as entries:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in self._seen:
                return
            self._seen.add((status.st_dev, status.st_ino))
            self._folders += 1
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _is_candidate(entry.name):
                    self._file(entry)
                elif self._root.layout == "tree" and depth < _DEPTH and self._is_inside(entry, is_hub):
                    yield entry.path

    def _is_inside(self, entry: os.DirEntry[str], is_hub: bool) -> bool:
        if entry.name.startswith(".") or (is_hub and entry.name != "snapshots"):
            return False
        try:
            return entry.is_dir()
        except OSError:
            return False

    def _file(self, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat()
        except OSError as error:
            self.unusable.append(Unusable(entry.path, self._root.source, _unreachable(entry, error)))
            return
        if not stat.S_ISREG(status.st_mode):
            return
        name = name_of(self._base, entry.path)
        self.found.append(
            Found(
                entry.path,
                self._root.source,
                name,
                status.st_size,
                status.st_mtime_ns,
                status.st_dev,
                status.st_ino,
            )
        )


def name_of(base: str, path: str) -> str:
    """What a tool calls the file at ``path`` under ``base``: ``org/repo`` of a hub's cache, or its folder or name."""
    parts = path[len(base) :].strip(os.sep).split(os.sep)  # noqa: PTH206 - as above
    for part in parts:
        if part.startswith(_HUB):
            return part[len(_HUB) :].replace("--", "/")
    return "/".join(parts[:-1]) or parts[-1]


def stat_file(path: str, source: str, name: str) -> Found:
    """The file at ``path`` as one that was found. Raises OSError."""
    status = Path(path).stat()
    return Found(path, source, name, status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)


def _is_candidate(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(".gguf") or ("imatrix" in lower and lower.endswith(_LEGACY_IMATRIX))


def _unreachable(entry: os.DirEntry[str], error: OSError) -> Failure:
    if isinstance(error, FileNotFoundError) and entry.is_symlink():
        return Failure(
            f"{entry.name} is a link to a file that is gone",
            "What it points to was moved or deleted.",
            "Remove the link, or fetch the file again.",
        )
    return Failure(
        f"{entry.name} cannot be read",
        f"The system says: {error.strerror or error}.",
        "Check the permissions of the file and of the folders above it.",
    )


def _why(folder: str, error: OSError) -> str:
    return f"{folder} cannot be read: {error.strerror or error}"

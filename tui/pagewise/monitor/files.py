"""Which of the files that processes hold are GGUF files, whatever they are called, and how each can be read from here.

The answer for a file is kept for as long as some process holds it: a file that is held keeps its inode number.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from pagewise.models.gguf import MAGIC, printable

State = Literal["present", "deleted", "replaced", "unreadable"]
_DELETED = " (deleted)"
_SUFFIX = ".gguf"


class Identity(NamedTuple):
    """One file for as long as it exists: ``st_dev`` and ``st_ino``."""

    device: int
    inode: int


class GgufFile(NamedTuple):
    """A GGUF file that some process holds."""

    path: str
    """As the process names it, without control characters."""
    readable: Path | None
    """A path by which its bytes can be read from here; None where the rights for that are missing."""
    identity: Identity | None
    bytes: int | None
    state: State


class Link(NamedTuple):
    """How a process refers to a file: the kernel's text, and paths that lead to it if we have the rights."""

    text: str
    pid: int
    own_root: bool
    """The process sees the same file system as we do."""
    direct: str
    """``/proc/PID/map_files/…`` or ``/proc/PID/fd/…``: right for files that were deleted, too."""


class Files:
    """Tells GGUF files from others. ``begin`` and ``end`` enclose one round over all processes."""

    def __init__(self) -> None:
        self._known: dict[object, GgufFile | None] = {}
        self._seen: set[object] = set()

    def begin(self) -> None:
        """A round begins."""
        self._seen = set()

    def end(self) -> None:
        """A round is over: what nobody holds any more is forgotten."""
        for key in self._known.keys() - self._seen:
            del self._known[key]

    def held(self, key: object, link: Link) -> GgufFile | None:
        """The GGUF file behind ``link``; None if it is another kind of file. ``key`` names the file in this round."""
        self._seen.add(key)
        if key not in self._known:
            self._known[key] = look(link)
        found = self._known[key]
        if found is None or found.state == "present":
            return found
        # These lead over one process, which may have ended, and the name may have been taken again.
        return look(link)

    def named(self, path: str, link: Link) -> GgufFile | None:
        """The GGUF file that an argument of a command line names."""
        return self.held(("named", link.pid, path), link)


def look(link: Link) -> GgufFile | None:
    """Opens what the link leads to, and looks at its first bytes."""
    text, deleted = link.text, False
    if text.endswith(_DELETED) and not os.path.lexists(_through(link, text)):
        text, deleted = text[: -len(_DELETED)], True
    by_name = _through(link, text)
    candidates = [link.direct] if deleted else [by_name, link.direct]
    refused = False
    for candidate in candidates:
        if not candidate:
            continue
        try:
            begins, status = _first_bytes(candidate)
        except OSError as error:
            refused = refused or isinstance(error, PermissionError)
            continue
        if begins != MAGIC:
            return None
        state = _state(deleted, by_name, "present")
        return GgufFile(printable(text), Path(candidate), Identity(status.st_dev, status.st_ino), status.st_size, state)
    if refused and text.endswith(_SUFFIX):
        return GgufFile(printable(text), None, None, None, _state(deleted, by_name, "unreadable"))
    return None


def _state(deleted: bool, by_name: str, otherwise: State) -> State:
    if not deleted:
        return otherwise
    return "replaced" if os.path.lexists(by_name) else "deleted"


def _through(link: Link, text: str) -> str:
    return text if link.own_root else f"/proc/{link.pid}/root{text}"


def _first_bytes(path: str) -> tuple[bytes, os.stat_result]:
    # A name may lead to a pipe or a device by now: opening one must neither wait nor do anything.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        return (os.pread(descriptor, 4, 0) if stat.S_ISREG(status.st_mode) else b""), status
    finally:
        os.close(descriptor)

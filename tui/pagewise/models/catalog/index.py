"""What was read of each file, kept on disk: a file that has not changed is not opened again."""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path

import msgspec
import platformdirs
from msgspec import Struct

from pagewise.atomic import write_atomically
from pagewise.models.catalog.facts import Facts, NotUsable
from pagewise.models.catalog.ollama import ReadManifests
from pagewise.models.catalog.walk import Found

_MAGIC = b"PWC1"
"""To be changed with every change of what is kept."""
_MAX = 512 << 20


class _Entry(Struct, frozen=True, array_like=True, gc=False):
    size: int
    mtime_ns: int
    inode: int
    facts: Facts | None
    failure: NotUsable | None


class _Content(Struct, frozen=True, array_like=True):
    files: dict[str, _Entry]
    manifests: ReadManifests


_decoder = msgspec.msgpack.Decoder(_Content)


class Index:
    """Facts by path, size, time of change and inode. A damaged index is an empty one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or platformdirs.user_cache_path("pagewise") / "catalog.bin"
        content = _read(self._path)
        self._files = content.files
        self.manifests = content.manifests
        """Ollama's, as they were read before."""
        self.manifests_now: ReadManifests = {}
        """Those that are there now."""
        self.passing: dict[str, Facts | NotUsable] = {}
        """What was read now, and may be otherwise at the next look though the file stays the same."""
        self._kept: dict[str, _Entry] = {}

    def known(self, file: Found) -> Facts | NotUsable | None:
        """What is known of this very file; None if it is new or has changed."""
        entry = self._kept.get(file.path) or self._files.get(file.path)
        if entry is None or (entry.size, entry.mtime_ns, entry.inode) != (file.size, file.mtime_ns, file.inode):
            return None
        self._kept[file.path] = entry
        return entry.facts if entry.facts is not None else entry.failure

    def keep(self, file: Found, told: Facts | NotUsable) -> None:
        """Remember it, where it stays true as long as the file is the same."""
        if not told.lasting:
            self.passing[file.path] = told
            return
        facts, failure = (told, None) if isinstance(told, Facts) else (None, told)
        self._kept[file.path] = _Entry(file.size, file.mtime_ns, file.inode, facts, failure)

    def save(self) -> None:
        """Write it, where it has changed. A disk that does not take it costs time at the next run, and nothing else."""
        if self._kept == self._files and self.manifests_now == self.manifests:
            return
        self._files, self.manifests = dict(self._kept), dict(self.manifests_now)
        payload = msgspec.msgpack.encode(_Content(self._kept, self.manifests_now))
        with contextlib.suppress(OSError):
            write_atomically(self._path, _MAGIC + zlib.crc32(payload).to_bytes(4, "little") + payload)


def _read(path: Path) -> _Content:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX)
        if content[:4] == _MAGIC and zlib.crc32(content[8:]) == int.from_bytes(content[4:8], "little"):
            return _decoder.decode(memoryview(content)[8:])
    except (OSError, msgspec.DecodeError):
        pass
    return _Content({}, {})

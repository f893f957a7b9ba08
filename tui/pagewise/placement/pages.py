"""Pages of a mapped file: found, read in, given back. Linux; needs no privilege."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import NamedTuple

_MADV_RANDOM, _MADV_DONTNEED, _MADV_POPULATE_READ = 1, 4, 22
_PAGE = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)


class Mapped(NamedTuple):
    """Bytes ``offset`` to ``offset + length`` of a file, seen at ``address``."""

    address: int
    offset: int
    length: int


class MappedFile:
    """One file as this process has it mapped. All ranges are (start, end) in the file. ``close`` it when done."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file is not mapped here, or this system lacks the calls."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._mappings = _mappings(os.fstat(self._descriptor))
            if not self._mappings:
                raise OSError(0, f"{path} is not mapped")
            # Exactly what is asked for is then read, and nothing beyond it, which would be somebody else's room.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        except (OSError, AttributeError):
            os.close(self._descriptor)
            raise

    def read(self, start: int, end: int) -> None:
        """Bring a range into memory and map it; returns when it is there. Raises OSError.

        The read is asked for first: populating alone would read a whole readahead window around every hole.
        """
        if _libc.readahead(ctypes.c_int(self._descriptor), ctypes.c_long(start), ctypes.c_size_t(end - start)):
            _raise_errno()
        self._advise(start, end, _MADV_POPULATE_READ)

    def drop(self, start: int, end: int) -> None:
        """Give a range back: out of our page tables, then out of the page cache. Raises OSError."""
        self._advise(start, end, _MADV_DONTNEED)
        os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_DONTNEED)

    def rows_only(self, start: int, end: int) -> None:
        """Of this range single rows will be read: a fault is to bring in no more than its page."""
        start, end = -(-start // _PAGE) * _PAGE, end // _PAGE * _PAGE
        if start < end:
            self._advise(start, end, _MADV_RANDOM)
            self.drop(start, end)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _advise(self, start: int, end: int, advice: int) -> None:
        for mapped in self._mappings:
            low, high = max(start, mapped.offset), min(end, mapped.offset + mapped.length)
            if low < high:
                address = mapped.address + low - mapped.offset
                arguments = (ctypes.c_void_p(address), ctypes.c_size_t(high - low), ctypes.c_int(advice))
                if _libc.madvise(*arguments):
                    _raise_errno()


def _mappings(status: os.stat_result) -> tuple[Mapped, ...]:
    text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return parse_maps(text, (os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino)


def parse_maps(text: str, device: tuple[int, int], inode: int) -> tuple[Mapped, ...]:
    """The mappings of one file in the text of ``/proc/self/maps``."""
    found: list[Mapped] = []
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 5 or fields[4] != str(inode):
            continue
        major, _, minor = fields[3].partition(":")
        if (int(major, 16), int(minor, 16)) == device:
            start, _, end = fields[0].partition("-")
            found.append(Mapped(int(start, 16), int(fields[2], 16), int(end, 16) - int(start, 16)))
    return tuple(found)


def _raise_errno() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))

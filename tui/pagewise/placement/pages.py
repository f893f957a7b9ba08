"""Pages of a mapped file: found, read in, given back. Linux; needs no privilege."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from pathlib import Path
from typing import NamedTuple

GRANULE = 2 * 1024 * 1024
"""The largest folio of the page cache, and what one entry of the page tables can map; aligned in the file."""
PAGE = mmap.PAGESIZE
_MADV_RANDOM, _MADV_DONTNEED, _MADV_HUGEPAGE, _MADV_NOHUGEPAGE, _MADV_POPULATE_READ = 1, 4, 14, 15, 22
_CACHESTAT = 451
_FEW_FAULTS = 16
_TRIES = 3

_libc = ctypes.CDLL(None, use_errno=True)


class Mapped(NamedTuple):
    """Bytes ``offset`` to ``offset + length`` of a file, seen at ``address``."""

    address: int
    offset: int
    length: int


class _Range(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _Stat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")]


class MappedFile:
    """One file as this process has it mapped. All ranges are (start, end) in the file. ``close`` it when done."""

    def __init__(self, path: Path, *, locks: bool = False) -> None:
        """``locks``: what is read to be kept is locked.

        Raises OSError where the file is not mapped here, or this system lacks the calls.
        """
        self.path = path
        self._locks = locks
        self.locked = locks
        """Whether everything that was to be locked could be."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._whole_granules: bool | None = None
        try:
            status = os.fstat(self._descriptor)
            self._bytes = status.st_size
            self._mappings = _mappings(status, path)
            if not self._mappings:
                raise OSError(0, f"{path} is not mapped")
            # Exactly what is asked for is then read, and nothing beyond it, which would be somebody else's room.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        except (OSError, AttributeError):
            os.close(self._descriptor)
            raise

    def steer(self) -> None:
        """From now on a fault brings in the granule that it lies in, as one folio, and nothing around it.

        A file that was just written is brought to the disk first: pages cannot be dropped before.
        """
        os.fsync(self._descriptor)
        for mapped in self._mappings:
            end = mapped.offset + mapped.length
            self._advise(mapped.offset, end, _MADV_RANDOM)
            try:
                self._advise(mapped.offset, end, _MADV_HUGEPAGE)
            except OSError:
                # A kernel without huge pages: pages are then read and mapped one by one, which costs processor time.
                self._whole_granules = False

    def read(self, start: int, end: int) -> None:
        """Bring a range into memory and map it; returns when it is there. Raises OSError.

        A whole granule comes as one folio, at a tenth of the cost of its pages. For what is less, the read is asked for
        first, so that exactly these pages come: a fault among them would bring in the granule.
        """
        low, high = inner_granules(start, end)
        if self._whole_granules is False or low >= high:
            self._read_ahead(start, end)
        else:
            self._read_ahead(start, low)
            self._read_ahead(high, end)
            if self._whole_granules is None:
                self._try_granule(low)
        self._advise(start, end, _MADV_POPULATE_READ)

    def keep(self, start: int, end: int) -> None:
        """Read a range that is to stay. Raises OSError."""
        self.read(start, end)
        if self._locks:
            for address, length in self._places(start, end):
                if _libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(length)):
                    # The limit on locked memory is reached: the rest is as safe as any other page.
                    self.locked = self._locks = False
                    return

    def drop(self, start: int, end: int) -> None:
        """Give a range back: out of our page tables, then out of the page cache. Raises OSError.

        Pages of which only a part is in the range stay.
        """
        for address, length in self._places(start, end) if self._locks else ():
            _libc.munlock(ctypes.c_void_p(address), ctypes.c_size_t(length))
        start, end = inner_pages(start, end) if end < self._bytes else (-(-start // PAGE) * PAGE, end)
        if start < end:
            self._advise(start, end, _MADV_DONTNEED)
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_DONTNEED)

    def gives_back(self, start: int, end: int) -> bool:
        """Whether what is dropped of this file leaves the page cache: not on every file system, nor where another
        process has it mapped. The range is dropped by this. True where the kernel does not say.
        """
        try:
            # A read that is just ending keeps its pages for a moment.
            return any(self._is_gone(start, end) for _ in range(_TRIES))
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
                return True
            raise

    def _is_gone(self, start: int, end: int) -> bool:
        self.drop(start, end)
        return self.cached(start, end) == 0

    def rows_only(self, start: int, end: int) -> None:
        """Of this range single rows will be read: a fault is to bring in no more than its page.

        The granules at its ends, which others need as well, stay whole: a read of one of them would otherwise fault
        for each page.
        """
        start, end = inner_granules(start, end)
        if start < end:
            self._advise(start, end, _MADV_RANDOM)
            if self._whole_granules is not False:
                self._advise(start, end, _MADV_NOHUGEPAGE)
            self.drop(start, end)

    def cached(self, start: int, end: int) -> int:
        """Bytes of a range that are in the page cache. Raises OSError where the kernel does not say."""
        span, stat = _Range(start, end - start), _Stat()
        if _libc.syscall(_CACHESTAT, self._descriptor, ctypes.byref(span), ctypes.byref(stat), 0):
            _raise_errno()
        return int(stat.cache) * PAGE

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_ahead(self, start: int, end: int) -> None:
        if start >= end:
            return
        if _libc.readahead(ctypes.c_int(self._descriptor), ctypes.c_long(start), ctypes.c_size_t(end - start)):
            _raise_errno()

    def _try_granule(self, start: int) -> None:
        """Whether this kernel brings in a granule at one fault, seen by the faults that it takes."""
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        self._advise(start, start + GRANULE, _MADV_POPULATE_READ)
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt - before
        # Several threads try at first; one granule that came whole has shown what the kernel can do.
        if faults and self._whole_granules is None:
            self._whole_granules = faults <= _FEW_FAULTS

    def _places(self, start: int, end: int) -> list[tuple[int, int]]:
        """Addresses and lengths of whole pages that hold a range."""
        places = []
        start, end = start // PAGE * PAGE, -(-end // PAGE) * PAGE
        for mapped in self._mappings:
            low, high = max(start, mapped.offset), min(end, mapped.offset + mapped.length)
            if low < high:
                places.append((mapped.address + low - mapped.offset, high - low))
        return places

    def _advise(self, start: int, end: int, advice: int) -> None:
        for address, length in self._places(start, end):
            arguments = (ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_int(advice))
            while _libc.madvise(*arguments):
                if ctypes.get_errno() != errno.EINTR:
                    _raise_errno()


def inner_pages(start: int, end: int) -> tuple[int, int]:
    """The whole pages within a range; none where start is not below end."""
    return -(-start // PAGE) * PAGE, end // PAGE * PAGE


def inner_granules(start: int, end: int) -> tuple[int, int]:
    """The whole granules within a range; none where start is not below end."""
    return -(-start // GRANULE) * GRANULE, end // GRANULE * GRANULE


def _mappings(status: os.stat_result, path: Path) -> tuple[Mapped, ...]:
    text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    device = os.major(status.st_dev), os.minor(status.st_dev)
    return parse_maps(text, device, status.st_ino) or parse_maps_by_path(text, path.resolve())


def parse_maps(text: str, device: tuple[int, int], inode: int) -> tuple[Mapped, ...]:
    """The mappings of one file in the text of ``/proc/self/maps``."""
    found: list[Mapped] = []
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 5 or fields[4] != str(inode):
            continue
        major, _, minor = fields[3].partition(":")
        if (int(major, 16), int(minor, 16)) == device:
            found.append(_mapped(fields))
    return tuple(found)


def parse_maps_by_path(text: str, path: Path) -> tuple[Mapped, ...]:
    """The same by the file's name: btrfs and overlays show another device there than stat does."""
    lines = [line.split(maxsplit=5) for line in text.splitlines()]
    return tuple(_mapped(fields) for fields in lines if len(fields) == 6 and fields[5].rstrip() == str(path))


def _mapped(fields: list[str]) -> Mapped:
    start, _, end = fields[0].partition("-")
    return Mapped(int(start, 16), int(fields[2], 16), int(end, 16) - int(start, 16))


def _raise_errno() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))

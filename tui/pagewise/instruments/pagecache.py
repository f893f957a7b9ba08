"""Ways to ask Linux which pages of a file are in memory. Each answers in pages for a half-open byte range of the file.

They differ in what they can know: ``cachestat`` and ``mincore`` tell what the page cache holds, the pagemap ways only
what one process has mapped. Since Linux 5.2 ``mincore`` answers "all of it" for a file that is not ours, without an
error, and ``cachestat`` refuses: hence the order in ``choose``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pagewise.instruments.procfs import Mapping, parse_mappings
from pagewise.readings import Missing

PAGE = os.sysconf("SC_PAGE_SIZE")
_CACHESTAT = 451
_PAGEMAP_SCAN = 0xC0606610
"""``_IOWR('f', 16, struct pm_scan_arg)``, a struct of 96 bytes."""
_PAGE_IS_FILE, _PAGE_IS_PRESENT = 4, 8
_MAPPINGS_KEPT_S = 5.0
_ODD = bytes(value & 1 for value in range(256))
_TOP_BIT = bytes(value >> 7 for value in range(256))
_PIECE = 1 << 19
"""Pages asked for at once where each page costs a byte or more of answer."""


class Pages(NamedTuple):
    """Pages found. ``reclaimed``: dropped by the kernel's reclaim; None where the way cannot tell."""

    present: int
    reclaimed: int | None


class Way(Protocol):
    """One way of asking about one file. ``pages`` raises OSError when it can no longer answer."""

    name: str
    meaning: Literal["cached", "mapped"]

    def pages(self, start: int, end: int) -> Pages: ...

    def close(self) -> None: ...


class _Range(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _Cachestat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")]


class _Libc:
    def __init__(self) -> None:
        self.library = ctypes.CDLL(None, use_errno=True)
        self.library.mmap.restype = ctypes.c_void_p
        self.library.mmap.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        ]
        self.library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self.library.syscall.restype = ctypes.c_long


_libc = _Libc().library


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


class Cachestat:
    """``cachestat(2)``, Linux 6.5: cheap, and tells what reclaim took. Refused for a file of somebody else's."""

    name = "cachestat"
    meaning: Literal["cached", "mapped"] = "cached"

    def __init__(self, path: Path) -> None:
        if platform.system() != "Linux":
            raise OSError(errno.ENOSYS, "only Linux has it")
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.pages(0, PAGE)
        except OSError:
            self.close()
            raise

    def pages(self, start: int, end: int) -> Pages:
        """Pages of bytes ``start`` to ``end``; every page that the range touches counts."""
        answer = _Cachestat()
        asked = _Range(start, end - start)
        arguments = (ctypes.c_uint(self._descriptor), ctypes.byref(asked), ctypes.byref(answer), ctypes.c_uint(0))
        if _libc.syscall(ctypes.c_long(_CACHESTAT), *arguments):
            _raise_errno()
        return Pages(answer.cached, answer.evicted)

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Mincore:
    """``mincore(2)`` on a mapping of our own: a lookup for each page, and only true for a file that we could write."""

    name = "mincore"
    meaning: Literal["cached", "mapped"] = "cached"

    def __init__(self, path: Path) -> None:
        status = path.stat()
        if status.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EPERM, "the file belongs to somebody else, and the answer would be a lie")
        self._length = status.st_size
        self._address: int | None = None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # PROT_READ = 1, MAP_SHARED = 1 on Linux and macOS alike.
            address = _libc.mmap(None, self._length, 1, 1, descriptor, 0)
        finally:
            os.close(descriptor)
        if address in (None, ctypes.c_void_p(-1).value):
            _raise_errno()
        self._address = address

    def pages(self, start: int, end: int) -> Pages:
        """Pages of bytes ``start`` to ``end``; every page that the range touches counts."""
        if self._address is None:
            raise OSError(errno.EBADF, "the mapping is closed")
        first, last = start // PAGE, -(-min(end, self._length) // PAGE)
        present = 0
        for at in range(first, last, _PIECE):
            count = min(_PIECE, last - at)
            answer = ctypes.create_string_buffer(count)
            if _libc.mincore(self._address + at * PAGE, count * PAGE, answer):
                _raise_errno()
            present += answer.raw.translate(_ODD).count(1)
        return Pages(present, None)

    def close(self) -> None:
        """Takes the mapping away."""
        if self._address is not None:
            _libc.munmap(self._address, self._length)
            self._address = None


class _ProcessMappings:
    """Where a process has the file mapped; looked up again every few seconds."""

    def __init__(self, pid: int, path: Path) -> None:
        status = path.stat()
        self._maps = Path(f"/proc/{pid}/maps")
        self._device = (os.major(status.st_dev), os.minor(status.st_dev))
        self._inode = status.st_ino
        self._found: tuple[Mapping, ...] = ()
        self._looked_at = float("-inf")

    def count(self, start: int, end: int, count: Callable[[int, int], int]) -> int:
        """The sum of ``count`` over the page-aligned address ranges that show bytes ``start`` to ``end``."""
        now = time.monotonic()
        if now - self._looked_at > _MAPPINGS_KEPT_S:
            text = self._maps.read_text(encoding="utf-8", errors="replace")
            self._found = parse_mappings(text, self._device, self._inode)
            self._looked_at = now
        start, end = start // PAGE * PAGE, -(-end // PAGE) * PAGE
        total = 0
        for mapping in self._found:
            low = max(start, mapping.offset)
            high = min(end, mapping.offset + mapping.end - mapping.start)
            if low < high:
                shift = mapping.start - mapping.offset
                total += count(low + shift, high + shift)
        return total


class PagemapScan:
    """The ``PAGEMAP_SCAN`` ioctl, Linux 6.7: which pages of the file the engine has mapped. Any owner."""

    name = "pagemap scan"
    meaning: Literal["cached", "mapped"] = "mapped"

    def __init__(self, pid: int, path: Path) -> None:
        self._mappings = _ProcessMappings(pid, path)
        self._regions = (ctypes.c_uint64 * (3 * 1024))()
        self._descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._present(0, PAGE)
        except OSError:
            self.close()
            raise

    def pages(self, start: int, end: int) -> Pages:
        """Mapped pages of bytes ``start`` to ``end`` of the file."""
        return Pages(self._mappings.count(start, end, self._present), None)

    def _present(self, start: int, end: int) -> int:
        wanted = _PAGE_IS_FILE | _PAGE_IS_PRESENT
        found, at = 0, start
        while at < end:
            # size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof_mask, return_mask
            vector = ctypes.addressof(self._regions)
            fields = (96, 0, at, end, 0, vector, len(self._regions) // 3, 0, 0, wanted, 0, wanted)
            argument = (ctypes.c_uint64 * 12)(*fields)
            count = fcntl.ioctl(self._descriptor, _PAGEMAP_SCAN, argument)
            for region in range(count):
                found += (self._regions[3 * region + 1] - self._regions[3 * region]) // PAGE
            walked = argument[4]
            if walked <= at:
                break
            at = walked
        return found

    def close(self) -> None:
        """Lets go of the process's page map."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Pagemap:
    """``/proc/PID/pagemap``, eight bytes a page: which pages of the file the engine has mapped. Any kernel."""

    name = "pagemap"
    meaning: Literal["cached", "mapped"] = "mapped"

    def __init__(self, pid: int, path: Path) -> None:
        self._mappings = _ProcessMappings(pid, path)
        self._descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)

    def pages(self, start: int, end: int) -> Pages:
        """Mapped pages of bytes ``start`` to ``end`` of the file."""
        return Pages(self._mappings.count(start, end, self._present), None)

    def _present(self, start: int, end: int) -> int:
        found = 0
        for at in range(start // PAGE, end // PAGE, _PIECE):
            count = min(_PIECE, end // PAGE - at)
            entries = os.pread(self._descriptor, 8 * count, 8 * at)
            # Bit 63 of each little-endian entry says "present".
            found += entries[7::8].translate(_TOP_BIT).count(1)
        return found

    def close(self) -> None:
        """Lets go of the process's page map."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def choose(path: Path, pid: int | None) -> tuple[Way | None, tuple[Missing, ...]]:
    """The best way that works for this file here, and why the better ones do not.

    ``pid`` is the engine; without one, only the ways that need no process are tried.
    """
    ways: list[tuple[str, Callable[[], Way]]] = [(Cachestat.name, lambda: Cachestat(path))]
    if pid is not None:
        ways.append((PagemapScan.name, lambda: PagemapScan(pid, path)))
    ways.append((Mincore.name, lambda: Mincore(path)))
    if pid is not None:
        ways.append((Pagemap.name, lambda: Pagemap(pid, path)))
    refusals: list[Missing] = []
    for name, way in ways:
        chosen = _tried(way)
        if not isinstance(chosen, OSError):
            return chosen, tuple(refusals)
        refusals.append(Missing(name, _refusal(name, chosen)))
    return None, tuple(refusals)


def _tried(way: Callable[[], Way]) -> Way | OSError:
    try:
        return way()
    except OSError as error:
        return error


def _refusal(name: str, error: OSError) -> str:
    if error.errno in (errno.ENOSYS, errno.ENOTTY):
        return f"this kernel has no {name}, or a sandbox forbids it"
    if error.errno in (errno.EPERM, errno.EACCES) and name == Cachestat.name:
        return "the model file belongs to somebody else: Linux then hides what is cached of it"
    return f"{name} is refused: {error.strerror}"

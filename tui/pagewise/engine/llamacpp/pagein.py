"""Page-ins of each layer during one token: growth of its cached pages, by the cachestat system call (Linux 6.5)."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

from pagewise.engine.llamacpp.model import ModelFile
from pagewise.models.layers import layer_ranges
from pagewise.readings import LayerPlacement

_CACHESTAT = 451
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHARE = 0.01
_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _Stat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")]


class PageIn:
    """Counts cached pages of the mapped layers before and after a token.

    Page cache in small folios makes the count slow: it is taken only while all counts together have cost less than a
    hundredth of the time since the start.
    """

    def __init__(self, file: ModelFile, placement: tuple[LayerPlacement, ...]) -> None:
        """Raises OSError where the kernel lacks the call or refuses it for this file."""
        if not sys.platform.startswith("linux"):
            raise OSError("cachestat is a system call of Linux")
        mapped = {layer.name for layer in placement if layer.mapped_bytes}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptors: list[int] = []
        self._ranges: list[tuple[str, int, int, int]] = []
        self._then: dict[str, int] = {}
        self._spent_s = 0.0
        self._began_s = time.perf_counter()
        for header in file.headers:
            descriptor = os.open(header.path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors.append(descriptor)
            self._ranges += [
                (layer.name, descriptor, start, end)
                for layer in layer_ranges(header)
                if layer.name in mapped
                for start, end in layer.ranges
            ]
        try:
            self._count()
        except OSError:
            self.close()
            raise

    def before(self) -> None:
        """Count now, if the budget allows it."""
        spare = self._spent_s <= _SHARE * (time.perf_counter() - self._began_s)
        self._then = self._count() if spare and self._ranges else {}

    def after(self) -> dict[str, int]:
        """Bytes by which each mapped layer's cached pages have grown since ``before``; empty if not counted."""
        if not self._then:
            return {}
        now = self._count()
        return {name: max(0, now[name] - then) for name, then in self._then.items()}

    def close(self) -> None:
        """Close the file."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors, self._ranges = [], []

    def _count(self) -> dict[str, int]:
        began = time.perf_counter()
        pages: dict[str, int] = {}
        stat = _Stat()
        for name, descriptor, start, end in self._ranges:
            span = _Range(start, end - start)
            if self._libc.syscall(_CACHESTAT, descriptor, ctypes.byref(span), ctypes.byref(stat), 0):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            pages[name] = pages.get(name, 0) + stat.cache * _PAGE
        self._spent_s += time.perf_counter() - began
        return pages


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in the page cache. Raises OSError where the system does not say."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stat, whole = _Stat(), _Range(0, 0)
    try:
        if _libc.syscall(_CACHESTAT, descriptor, ctypes.byref(whole), ctypes.byref(stat), 0):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)
    return int(stat.cache) * _PAGE

"""The measured peak of RAM: how many bytes a second this many threads can read. Measured once and kept.

``python -m pagewise.verdict.roofline THREADS`` measures and prints bytes per second. The reading is done by the C
library's ``memchr`` for a byte that is not there, which runs without the interpreter lock at the speed of memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import threading
import time
from pathlib import Path

from pagewise.verdict.kept import keep, kept

_LEAST_BYTES = 512 << 20
_BYTES_PER_THREAD = 64 << 20
_MOST_BYTES = 4 << 30
_SHARE_OF_AVAILABLE = 4
_PASSES = 6


def measure(threads: int) -> float:
    """Bytes per second read by ``threads`` threads together, the best of a few passes over a buffer beyond all caches.

    Raises MemoryError or OSError where there is no room for the buffer.
    """
    size = min(_MOST_BYTES, max(_LEAST_BYTES, threads * _BYTES_PER_THREAD), _available() // _SHARE_OF_AVAILABLE)
    part = size // threads // mmap.PAGESIZE * mmap.PAGESIZE
    if part == 0:
        raise MemoryError("too little memory is free to measure it")
    libc = ctypes.CDLL(None)
    libc.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.memchr.restype = ctypes.c_void_p
    with mmap.mmap(-1, part * threads) as buffer:
        with contextlib.suppress(AttributeError, OSError):
            buffer.madvise(mmap.MADV_HUGEPAGE)
        view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        address = ctypes.addressof(view)
        barrier = threading.Barrier(threads + 1)

        def read(index: int) -> None:
            start = address + index * part
            # Written by the thread that reads it, so that its pages are near it.
            ctypes.memset(start, 1, part)
            for _ in range(_PASSES):
                barrier.wait()
                libc.memchr(start, 0, part)
                barrier.wait()

        readers = [threading.Thread(target=read, args=(index,)) for index in range(threads)]
        for reader in readers:
            reader.start()
        best = 0.0
        for _ in range(_PASSES):
            barrier.wait()
            began = time.perf_counter()
            barrier.wait()
            best = max(best, part * threads / (time.perf_counter() - began))
        for reader in readers:
            reader.join()
        del view
    return best


def known_peak(threads: int, folder: Path | None = None) -> float | None:
    """The peak that was measured on this machine for this many threads, in bytes per second; None: never."""
    return kept(f"{threads} threads", folder)


def keep_peak(threads: int, bytes_per_s: float, folder: Path | None = None) -> None:
    """Keep it for the next time. A folder that cannot be written to means that it will be measured again."""
    keep(f"{threads} threads", bytes_per_s, folder)


def _available() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(measure(int(sys.argv[1])))

"""The measured peak of a disk: how many bytes a second it gives of a file that is there, past the page cache.

Direct reads (``O_DIRECT``) neither use the page cache nor fill it: what is cached of a model stays cached, and what is
not does not come in by being measured.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from pagewise.verdict.kept import keep, kept

THREADS = 4
"""As many as read ahead for layers that are streamed."""
BLOCK = 1 << 20
_LONGEST_S = 1.0
_LEAST_BYTES = 64 << 20
"""Of less nothing can be said: the disk answers from its own memory, and the start takes as long as the rest."""
_REALLY_THERE = 0.9


class NoPeak(Exception):
    """It cannot be measured on this file; the message is one clause that says why."""


class DiskPeak(NamedTuple):
    """What was measured, and how."""

    bytes_per_s: float
    bytes: int
    seconds: float


def measure(file: Path, seconds: float = _LONGEST_S, threads: int = THREADS) -> DiskPeak:
    """Read ``file`` from its start with ``threads`` direct reads of BLOCK at once, for ``seconds`` at most.

    Raises NoPeak.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise NoPeak(f"{error.strerror}") from error
    if status.st_size < _LEAST_BYTES:
        raise NoPeak(f"the file is smaller than {_LEAST_BYTES >> 20} MiB")
    if 512 * status.st_blocks < _REALLY_THERE * status.st_size:
        raise NoPeak("the file is sparse or compressed: less of it is on the disk than it is long")
    if not hasattr(os, "O_DIRECT"):
        raise NoPeak("this system has no direct reads")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        raise NoPeak(f"its file system takes no direct reads: {error.strerror}") from error
    try:
        return _read(descriptor, status.st_size // BLOCK, seconds, threads)
    finally:
        os.close(descriptor)


def known_disk_peak(disk: str, folder: Path | None = None) -> float | None:
    """The peak that was measured of a disk of this machine, in bytes per second; None: never."""
    return kept(f"disk {disk}", folder)


def keep_disk_peak(disk: str, bytes_per_s: float, folder: Path | None = None) -> None:
    """Keep it for the next time."""
    keep(f"disk {disk}", bytes_per_s, folder)


def _read(descriptor: int, blocks: int, seconds: float, threads: int) -> DiskPeak:
    lock = threading.Lock()
    next_block = done = 0
    failures: list[OSError] = []
    began = time.perf_counter()

    def work() -> None:
        nonlocal next_block, done
        with mmap.mmap(-1, BLOCK) as buffer:
            while time.perf_counter() - began < seconds:
                with lock:
                    block, next_block = next_block, next_block + 1
                if block >= blocks:
                    return
                try:
                    n = os.preadv(descriptor, [buffer], block * BLOCK)
                except OSError as error:
                    failures.append(error)
                    return
                with lock:
                    done += n

    readers = [threading.Thread(target=work) for _ in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    took = time.perf_counter() - began
    if failures:
        raise NoPeak(f"a direct read failed: {failures[0].strerror}")
    return DiskPeak(done / took, done, took)

"""A file whose pages are not in memory, and a process that touches them when told to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagewise.instruments.pagecache import Cachestat

_TOUCHER = """
import mmap, sys
file = open(sys.argv[1], "rb")
pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
if sys.argv[2] == "random":
    pages.madvise(mmap.MADV_RANDOM)
print("ready", flush=True)
for line in sys.stdin:
    start, end, step = map(int, line.split())
    sum(pages[at] for at in range(start, end, step))
    print("touched", flush=True)
"""


def make_dropped_file(path: Path, size: int) -> Path:
    """A file of ``size`` bytes with nothing of it cached; skips the test where that cannot be had or checked."""
    with path.open("wb") as file:
        for _ in range(0, size, 1 << 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        left = Cachestat(path).pages(0, size).present
    except OSError as error:
        pytest.skip(f"cachestat: {error}")
    if left:
        pytest.skip(f"{left} pages stay in memory: this file system cannot be dropped (tmpfs?)")
    return path


class Toucher:
    """A process that has the file mapped; use as a context manager."""

    def __init__(self, path: Path, advice: str = "normal") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TOUCHER, str(path), advice],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def touch(self, start: int, end: int, step: int = 4096) -> None:
        """One byte each ``step`` bytes; returns when all have been read."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{start} {end} {step}\n")
        self.process.stdin.flush()
        self._answer("touched")

    def _answer(self, expected: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == expected

    def __enter__(self) -> Toucher:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

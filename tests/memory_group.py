"""A memory cgroup of our own, of version 1 or 2, where we may make one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


class Group(NamedTuple):
    """A memory cgroup."""

    path: Path
    version: int

    def limit(self, size: int) -> None:
        (self.path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")).write_text(str(size))

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def usage(self) -> int:
        return int((self.path / ("memory.usage_in_bytes" if self.version == 1 else "memory.current")).read_text())

    def peak(self) -> int:
        return int((self.path / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")).read_text())

    def forget_peak(self) -> None:
        """Count the peak anew, where the kernel lets it be (version 1, and version 2 from Linux 6.12 on)."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            (self.path / name).write_text("0")
        except OSError:
            return

    def oom_kills(self) -> int:
        text = (self.path / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def cached(self) -> int:
        stat = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        prefix = "total_" if "total_active_file" in stat else ""
        return int(stat[f"{prefix}active_file"]) + int(stat[f"{prefix}inactive_file"])

    @property
    def held(self) -> int:
        """What its processes hold that is not page cache."""
        return self.usage() - self.cached()


def can_make_groups() -> bool:
    """Whether this process may limit memory."""
    root = next((root for root in _ROOTS if root.is_dir()), None)
    return (
        root is not None
        and os.access(root, os.W_OK)
        and ((root / "memory.limit_in_bytes").exists() or _delegates(root))
    )


def _delegates(root: Path) -> bool:
    try:
        return "memory" in (root / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


@contextmanager
def memory_group() -> Iterator[Group]:
    version, root = (1, _ROOTS[0]) if _ROOTS[0].is_dir() else (2, _ROOTS[1])
    path = root / f"pagewise-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    try:
        yield Group(path, version)
    finally:
        until = time.monotonic() + 10
        while (path / "cgroup.procs").read_text().strip() and time.monotonic() < until:
            time.sleep(0.05)
        path.rmdir()

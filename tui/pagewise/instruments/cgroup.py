"""The memory cgroup that a process is in: limit, refaults, OOM kills and pressure files, of versions 1 and 2."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pagewise.instruments.procfs import parse_values

_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of a page below 2**63."""


class MemoryCgroup(NamedTuple):
    """A memory cgroup, and the top of the part of the hierarchy that can be seen from here."""

    version: Literal[1, 2]
    path: Path
    top: Path

    @property
    def is_top(self) -> bool:
        """Nothing above it can be seen: on a machine without containers, this is the whole box."""
        return self.path == self.top

    def limit_bytes(self) -> int | None:
        """The lowest limit on the way up; None without one."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        limits = []
        folder = self.path
        while True:
            text = _text(folder / name)
            if text is not None and text.strip().isdigit() and int(text) < _UNLIMITED:
                limits.append(int(text))
            if folder in (self.top, folder.parent):
                return min(limits) if limits else None
            folder = folder.parent

    def oom_kills(self) -> int | None:
        """How many processes of this cgroup the kernel has ended for want of memory."""
        text = _text(self.path / ("memory.oom_control" if self.version == 1 else "memory.events"))
        return None if text is None else parse_values(text).get("oom_kill")

    def refault_source(self) -> Path | None:
        """The file with the count of refaulted file pages, if this cgroup has one."""
        source = self.path / "memory.stat"
        text = _text(source)
        return source if text is not None and refaulted_pages(text) is not None else None

    def pressure_source(self, resource: Literal["io", "memory"]) -> Path | None:
        """The cgroup's own pressure file; version 1 has none, nor has the root."""
        source = self.path / f"{resource}.pressure"
        return source if self.version == 2 and _text(source) else None


def refaulted_pages(text: str) -> int | None:
    """File pages that were read again after reclaim, of ``memory.stat`` or ``/proc/vmstat``, children included."""
    values = parse_values(text)
    for name in ("total_workingset_refault_file", "workingset_refault_file", "workingset_refault"):
        if name in values:
            return values[name]
    return None


def find_memory_cgroup(pid: int | Literal["self"] = "self", proc: Path = Path("/proc")) -> MemoryCgroup | None:
    """The memory cgroup of a process, as far as it can be seen through this process's mounts; None without one."""
    memberships = _text(proc / str(pid) / "cgroup")
    mounts = _text(proc / "self" / "mountinfo")
    return None if memberships is None or mounts is None else locate(memberships, mounts)


def locate(memberships: str, mounts: str) -> MemoryCgroup | None:
    """The memory cgroup from the text of ``/proc/PID/cgroup`` and ``/proc/self/mountinfo``."""
    first: str | None = None
    second: str | None = None
    for line in memberships.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            first = path
        elif number == "0" and not controllers:
            second = path
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        root, mount_point = _unescaped(fields[3]), Path(_unescaped(fields[4]))
        if first is not None and kind[0] == "cgroup" and "memory" in kind[-1].split(","):
            return MemoryCgroup(1, _inside(mount_point, root, first), mount_point)
        if first is None and second is not None and kind[0] == "cgroup2":
            return MemoryCgroup(2, _inside(mount_point, root, second), mount_point)
    return None


def _inside(mount_point: Path, root: str, path: str) -> Path:
    # In a container the path is often the one of the outside: what is mounted is then the cgroup itself.
    relative = path.removeprefix(root) if root != "/" else path
    found = mount_point / relative.lstrip("/")
    return found if ".." not in relative and found.is_dir() else mount_point


def _unescaped(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None

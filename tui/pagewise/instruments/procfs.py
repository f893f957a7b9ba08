"""The text of Linux's ``/proc`` and ``/sys``: files that are kept open, and what their text says.

Parsers are pure functions of the text. They take what is there and leave out what they do not know, since kernels add
and drop lines; a line that has another shape than proc(5) says raises ValueError.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_READ_LIMIT = 1 << 16


class KeptFile:
    """A small generated file that is opened once: ``pread`` makes its text anew, at a fifth of the cost of opening it.

    Raises OSError when it cannot be opened, and from ``read`` when what it tells of is gone (a process that ended).
    """

    _descriptor = -1

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> str:
        """The text as it is now."""
        return os.pread(self._descriptor, _READ_LIMIT, 0).decode("utf-8", errors="replace")

    def close(self) -> None:
        """Lets go of the descriptor. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class ProcessStat(NamedTuple):
    """Counters of ``/proc/PID/stat``, which any user may read."""

    major_faults: int
    cpu_ticks: int
    """User and system time in clock ticks (``os.sysconf("SC_CLK_TCK")`` a second)."""
    system_ticks: int
    """The part of it that was spent in the kernel."""
    threads: int


class CpuTicks(NamedTuple):
    """Ticks of all cores together since the machine came up."""

    busy: int
    total: int


class Mapping(NamedTuple):
    """One mapping of a file in a process's address space: half-open addresses, and where in the file it begins."""

    start: int
    end: int
    offset: int


def parse_values(text: str) -> dict[str, int]:
    """``name: value``, ``name: value kB`` and ``name value`` lines as integers; kB become bytes, others are left out.

    Serves ``/proc/PID/io``, ``/proc/PID/status``, ``/proc/meminfo``, ``/proc/vmstat``, ``memory.stat`` and their like.
    """
    values: dict[str, int] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) < 2:
            continue
        try:
            value = int(parts[1])
        except ValueError:
            continue
        values[parts[0].removesuffix(":")] = value * 1024 if parts[2:3] == ["kB"] else value
    return values


def parse_process_stat(text: str) -> ProcessStat:
    """Counters of ``/proc/PID/stat``. The command's name may hold brackets: the fields begin behind the last one."""
    fields = text.rpartition(")")[2].split()
    if len(fields) < 18:
        raise ValueError("/proc/PID/stat has fewer fields than proc(5) says")
    return ProcessStat(int(fields[9]), int(fields[11]) + int(fields[12]), int(fields[12]), int(fields[17]))


def parse_cpu(text: str) -> CpuTicks:
    """The first line of ``/proc/stat``. Guest time is part of user time already; waiting for I/O is idle."""
    fields = text.split("\n", 1)[0].split()
    if len(fields) < 5 or fields[0] != "cpu":
        raise ValueError("/proc/stat does not begin with the line of all cores")
    ticks = [int(field) for field in fields[1:9]]
    idle = ticks[3] + (ticks[4] if len(ticks) > 4 else 0)
    return CpuTicks(sum(ticks) - idle, sum(ticks))


def parse_pressure(text: str) -> int:
    """Microseconds in which at least one task was stalled (``some … total=``), of a pressure stall file."""
    for line in text.splitlines():
        if line.startswith("some "):
            for field in line.split()[1:]:
                if field.startswith("total="):
                    return int(field.removeprefix("total="))
    raise ValueError("a pressure file without a total of 'some'")


def parse_sectors_read(text: str) -> int:
    """Bytes read, of ``/sys/block/DISK/stat``. A sector is 512 bytes there, whatever the device's own are."""
    fields = text.split()
    if len(fields) < 3:
        raise ValueError("a disk's stat file has fewer fields than the kernel documents")
    return int(fields[2]) * 512


def parse_mappings(text: str, device: tuple[int, int], inode: int) -> tuple[Mapping, ...]:
    """The mappings of one file in ``/proc/PID/maps``, by (major, minor) of its device and its inode number."""
    found = []
    for line in text.splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) < 5 or not parts[4].isdigit() or int(parts[4]) != inode:
            continue
        major, _, minor = parts[3].partition(":")
        if (int(major, 16), int(minor, 16)) != device:
            continue
        start, _, end = parts[0].partition("-")
        found.append(Mapping(int(start, 16), int(end, 16), int(parts[2], 16)))
    return tuple(found)

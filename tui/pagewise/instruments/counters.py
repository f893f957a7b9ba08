"""Monotonic counters of one process and of the box, read together; rates are differences of two readings.

Every counter that cannot be had is None, and ``missing`` says why. A reading costs some twenty microseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from pagewise.instruments.cgroup import find_memory_cgroup, refaulted_pages
from pagewise.instruments.procfs import (
    KeptFile,
    ProcessStat,
    parse_cpu,
    parse_pressure,
    parse_process_stat,
    parse_sectors_read,
    parse_values,
)
from pagewise.readings import Missing

PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
Value = TypeVar("Value")


class Counts(Struct, frozen=True):
    """One reading. Seconds, bytes and events since the process or the machine came up."""

    at_s: float
    read_bytes: int | None
    major_faults: int | None
    cpu_s: float | None
    kernel_s: float | None
    """The part of ``cpu_s`` that was spent in the kernel."""
    refault_bytes: int | None
    io_stall_s: float | None
    memory_stall_s: float | None
    disk_read_bytes: int | None
    box_busy_s: float | None
    box_total_s: float | None
    """Of all cores together."""


class Counters:
    """Keeps the counters of process ``pid`` open, and those of its cgroup, the box, and the disk under ``file``."""

    def __init__(self, pid: int | None, file: Path | None = None) -> None:
        self.pid = pid
        self._missing: dict[str, str] = {}
        self._io = self._stat = None
        if pid is not None:
            self._io = self._open("read_bytes", Path(f"/proc/{pid}/io"))
            self._stat = self._open("major_faults", Path(f"/proc/{pid}/stat"))
        cgroup = find_memory_cgroup("self" if pid is None else pid)
        refaults = cgroup.refault_source() if cgroup else None
        self.refault_scope = "cgroup" if refaults else "box"
        self._refaults = self._open("refault_bytes", refaults or Path("/proc/vmstat"))
        io, memory = (cgroup.pressure_source("io"), cgroup.pressure_source("memory")) if cgroup else (None, None)
        self.pressure_scope = "cgroup" if io and memory else "box"
        if not (io and memory):
            io, memory = Path("/proc/pressure/io"), Path("/proc/pressure/memory")
        self._io_pressure = self._open("io_stall_s", io)
        self._memory_pressure = self._open("memory_stall_s", memory)
        self._box = self._open("box_busy_s", Path("/proc/stat"))
        self.disk, self._disk = self._find_disk(file)

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Counters that cannot be had, each with its reason."""
        return tuple(Missing(metric, why) for metric, why in self._missing.items())

    def read(self) -> Counts:
        """All counters now."""
        stat: ProcessStat | None = self._value("major_faults", self._stat, parse_process_stat)
        box = self._value("box_busy_s", self._box, parse_cpu)
        refaults = self._value("refault_bytes", self._refaults, refaulted_pages)
        io_stall = self._value("io_stall_s", self._io_pressure, parse_pressure)
        memory_stall = self._value("memory_stall_s", self._memory_pressure, parse_pressure)
        return Counts(
            at_s=time.monotonic(),
            read_bytes=self._value("read_bytes", self._io, lambda text: parse_values(text)["read_bytes"]),
            major_faults=stat.major_faults if stat else None,
            cpu_s=stat.cpu_ticks * _TICK_S if stat else None,
            kernel_s=stat.system_ticks * _TICK_S if stat else None,
            refault_bytes=refaults * PAGE if refaults is not None else None,
            io_stall_s=io_stall / 1e6 if io_stall is not None else None,
            memory_stall_s=memory_stall / 1e6 if memory_stall is not None else None,
            disk_read_bytes=self._value("disk_read_bytes", self._disk, parse_sectors_read),
            box_busy_s=box.busy * _TICK_S if box else None,
            box_total_s=box.total * _TICK_S if box else None,
        )

    def close(self) -> None:
        """Lets go of all descriptors."""
        for kept in (
            self._io,
            self._stat,
            self._refaults,
            self._io_pressure,
            self._memory_pressure,
            self._box,
            self._disk,
        ):
            if kept is not None:
                kept.close()

    def _open(self, metric: str, path: Path) -> KeptFile | None:
        try:
            return KeptFile(path)
        except OSError as error:
            self._missing[metric] = f"{path} cannot be read: {error.strerror}"
            return None

    def _value(self, metric: str, kept: KeptFile | None, parse: Callable[[str], Value]) -> Value | None:
        if kept is None:
            return None
        try:
            value = parse(kept.read())
        except ProcessLookupError:
            self._missing[metric] = "the process has ended"
            return None
        except (OSError, ValueError, KeyError) as error:
            self._missing[metric] = f"the kernel does not tell: {error}"
            return None
        self._missing.pop(metric, None)
        return value

    def _find_disk(self, file: Path | None) -> tuple[str | None, KeptFile | None]:
        if file is None:
            return None, None
        try:
            whole = disk_under(file)
            return whole.name, KeptFile(whole / "stat")
        except OSError:
            self._missing["disk_read_bytes"] = "the model file's file system does not lie on one block device"
            return None, None


def disk_under(file: Path) -> Path:
    """The whole disk that a file lies on, as its folder in ``/sys``. Raises OSError where it is on none, or several."""
    device = file.stat().st_dev
    entry = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True)
    return entry.parent if (entry / "partition").exists() else entry


def rate(before: float | None, after: float | None, seconds: float) -> float | None:
    """Growth a second; None where either reading is missing or no time has passed."""
    if before is None or after is None or seconds <= 0:
        return None
    return max(0.0, after - before) / seconds

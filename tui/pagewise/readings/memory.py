"""The box's memory, its paging, and which of a file's pages are in memory."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.readings.devices import Devices, Missing, Where


class Memory(Struct, frozen=True):
    """RAM of the box and of the engine process, in bytes."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None
    """The memory limit of our cgroup, if there is one below the box's RAM."""
    engine_rss_bytes: int | None
    engine_file_bytes: int | None
    engine_anon_bytes: int | None
    swap_used_bytes: int
    cpu_pct: float | None
    """CPU of the box over the last interval, in per cent of all cores."""
    engine_cpu_pct: float | None
    """CPU of the engine over the last interval, in per cent of one core."""


class Paging(Struct, frozen=True):
    """Page-ins of the engine over the last interval. Rates are per second over ``interval_s``."""

    interval_s: float
    page_in_bytes_s: float | None
    """Difference of ``read_bytes`` of ``/proc/PID/io``."""
    stalls_s: float | None
    """Major faults a second: an event count, never converted to bytes."""
    refault_bytes_s: float | None
    refault_scope: str
    """``cgroup`` or ``box``."""
    io_pressure_pct: float | None
    memory_pressure_pct: float | None
    pressure_scope: str
    disk_read_bytes_s: float | None
    disk: str | None
    missing: tuple[Missing, ...] = ()


class LayerResidency(Struct, frozen=True):
    """Page-cache state of one layer's byte ranges in the model file."""

    name: str
    bytes: int
    cached_bytes: int | None
    reclaimed_bytes: int | None
    """Dropped by the kernel's reclaim (``cachestat`` evicted); None where the method cannot tell."""
    where: Where
    device: str
    age_s: float


class Residency(Struct, frozen=True):
    """Residency of the model file, one entry a layer plus ``input`` and ``output``, in file order of layers."""

    path: str
    file_bytes: int
    method: str
    """``cachestat``, ``pagemap scan``, ``mincore``, ``pagemap``, ``RssFile``: what the cells are made from."""
    meaning: Literal["cached", "mapped"]
    """``cached``: in the page cache; ``mapped``: mapped by the process, where only that can be known."""
    layers: tuple[LayerResidency, ...]
    file_cached_bytes: int | None
    cost_ms: float
    missing: tuple[Missing, ...] = ()


class Snapshot(Struct, frozen=True):
    """One sample of everything the host reads from outside, at one moment of the host's clock."""

    at_s: float
    """Seconds on the host's monotonic clock."""
    engine_pid: int | None
    devices: Devices
    memory: Memory
    paging: Paging | None
    residency: Residency | None

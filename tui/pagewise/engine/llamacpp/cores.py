"""How many threads are worth having."""

from __future__ import annotations

import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def physical_cores() -> int:
    """Physical cores that this process may use: by affinity, and by the container's CPU quota."""
    allowed = _affinity()
    cores = _distinct_cores(allowed) or psutil.cpu_count(logical=False) or len(allowed) or 1
    quota = _quota()
    return max(1, min(cores, quota) if quota else cores)


def _affinity() -> set[int]:
    try:
        return set(os.sched_getaffinity(0))
    except AttributeError:
        return set(range(os.cpu_count() or 1))


def _distinct_cores(allowed: set[int]) -> int:
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return 0
    return len(cores)


def _quota() -> int | None:
    """Whole CPUs of the container's quota, rounded up; None without one."""
    try:
        quota, period = _QUOTAS[0].read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota, period = _QUOTAS[1].read_text(encoding="ascii"), _PERIOD.read_text(encoding="ascii")
        except OSError:
            return None
    try:
        return -(-int(quota) // int(period)) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):
        return None

"""RAM and CPU of the box, and the engine's share of them."""

from __future__ import annotations

import os
from pathlib import Path

from pagewise.instruments.cgroup import find_memory_cgroup
from pagewise.instruments.counters import Counters, rate
from pagewise.instruments.procfs import KeptFile, parse_values
from pagewise.readings import Memory


class SystemInstrument:
    """Readings of the box, and of process ``pid`` if one is given. Needs Linux's ``/proc``: OSError without it."""

    def __init__(self, pid: int | None = None) -> None:
        self._meminfo = KeptFile("/proc/meminfo")
        self._cgroup = find_memory_cgroup()
        self._status = _kept(Path(f"/proc/{pid}/status")) if pid is not None else None
        self._counters = Counters(pid)
        self._last = self._counters.read()

    def sample(self) -> Memory:
        """RAM now; CPU since the former sample, or since the instrument was made."""
        before, after = self._last, self._counters.read()
        self._last = after
        seconds = after.at_s - before.at_s
        box = parse_values(self._meminfo.read())
        limit = self._cgroup.limit_bytes() if self._cgroup else None
        engine = _engine_memory(self._status)
        cpu = rate(before.cpu_s, after.cpu_s, seconds)
        busy = rate(before.box_busy_s, after.box_busy_s, seconds)
        return Memory(
            total_bytes=box["MemTotal"],
            available_bytes=box.get("MemAvailable", box["MemFree"]),
            limit_bytes=limit if limit is not None and limit < box["MemTotal"] else None,
            engine_rss_bytes=engine.get("VmRSS"),
            engine_file_bytes=engine.get("RssFile"),
            engine_anon_bytes=engine.get("RssAnon"),
            swap_used_bytes=box.get("SwapTotal", 0) - box.get("SwapFree", 0),
            cpu_pct=None if busy is None else min(100.0, 100.0 * busy / (os.cpu_count() or 1)),
            engine_cpu_pct=None if cpu is None else 100.0 * cpu,
        )

    def close(self) -> None:
        """Lets go of all descriptors."""
        self._meminfo.close()
        self._counters.close()
        if self._status:
            self._status.close()


def physical_cores() -> int:
    """Physical cores that this process may run on; logical ones where the system does not tell them apart."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core(cpu) for cpu in allowed}
    return max(1, len(cores))


def _core(cpu: int) -> tuple[str, str]:
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        package = (topology / "physical_package_id").read_text(encoding="ascii").strip()
        return package, (topology / "core_id").read_text(encoding="ascii").strip()
    except OSError:
        return "", str(cpu)


def _kept(path: Path) -> KeptFile | None:
    try:
        return KeptFile(path)
    except OSError:
        return None


def _engine_memory(status: KeptFile | None) -> dict[str, int]:
    if status is None:
        return {}
    try:
        return parse_values(status.read())
    except OSError:
        return {}

"""How busy other programs keep this machine while one process is measured."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]  # it ships no types


class OtherLoad:
    """Cores that all programs but ``pids`` and this one keep busy, from the making of this object on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = (*pids, None)
        self._began = time.monotonic()
        self._busy = _busy_s()
        self._ours = self._own_s()

    def cores(self) -> float | None:
        """The mean so far; None where a process cannot be read any more, or where hardly any time has gone by."""
        passed = time.monotonic() - self._began
        ours = self._own_s()
        if ours is None or self._ours is None or passed < 0.05:
            return None
        return max(0.0, (_busy_s() - self._busy - (ours - self._ours)) / passed)

    def _own_s(self) -> float | None:
        try:
            times = [psutil.Process(pid).cpu_times() for pid in self._pids]
        except psutil.Error:
            return None
        return float(sum(time.user + time.system for time in times))


def _busy_s() -> float:
    """Seconds of work of all cores together since the machine began, without what other guests took."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    # guest time is counted in user already
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guest)

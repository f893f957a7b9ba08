"""Page-ins of the engine: bytes read from disk, major faults, refaults, time stalled for memory and I/O."""

from __future__ import annotations

from pathlib import Path

from pagewise.instruments.counters import Counters, rate
from pagewise.readings import Missing, Paging

_METRIC_OF_COUNTER = {
    "read_bytes": "page_in_bytes_s",
    "major_faults": "stalls_s",
    "refault_bytes": "refault_bytes_s",
    "io_stall_s": "io_pressure_pct",
    "memory_stall_s": "memory_pressure_pct",
    "disk_read_bytes": "disk_read_bytes_s",
}


class PagingInstrument:
    """Readings of one process's page-ins; ``file`` tells which disk is shown beside them."""

    def __init__(self, pid: int, file: Path | None = None) -> None:
        self._counters = Counters(pid, file)
        self._last = self._counters.read()

    def sample(self) -> Paging:
        """Rates since the former sample, or since the instrument was made."""
        before, after = self._last, self._counters.read()
        self._last = after
        seconds = after.at_s - before.at_s
        io = rate(before.io_stall_s, after.io_stall_s, seconds)
        memory = rate(before.memory_stall_s, after.memory_stall_s, seconds)
        return Paging(
            interval_s=seconds,
            page_in_bytes_s=rate(before.read_bytes, after.read_bytes, seconds),
            stalls_s=rate(before.major_faults, after.major_faults, seconds),
            refault_bytes_s=rate(before.refault_bytes, after.refault_bytes, seconds),
            refault_scope=self._counters.refault_scope,
            io_pressure_pct=None if io is None else min(100.0, 100.0 * io),
            memory_pressure_pct=None if memory is None else min(100.0, 100.0 * memory),
            pressure_scope=self._counters.pressure_scope,
            disk_read_bytes_s=rate(before.disk_read_bytes, after.disk_read_bytes, seconds),
            disk=self._counters.disk,
            missing=tuple(
                Missing(_METRIC_OF_COUNTER[entry.metric], entry.why)
                for entry in self._counters.missing
                if entry.metric in _METRIC_OF_COUNTER
            ),
        )

    def close(self) -> None:
        """Lets go of all descriptors."""
        self._counters.close()

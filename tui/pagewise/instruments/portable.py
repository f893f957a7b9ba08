"""RAM and CPU where there is no ``/proc``, such as on macOS, through psutil."""

from __future__ import annotations

import psutil  # type: ignore[import-untyped]  # it ships no types

from pagewise.readings import Memory


class PortableSystemInstrument:
    """Readings of the box, and of process ``pid`` if one is given."""

    def __init__(self, pid: int | None = None) -> None:
        self._process = _found(pid)
        psutil.cpu_percent()
        if self._process is not None:
            self._process.cpu_percent()

    def sample(self) -> Memory:
        """RAM now; CPU since the former sample, or since the instrument was made."""
        ram = psutil.virtual_memory()
        rss: int | None = None
        cpu: float | None = None
        if self._process is not None:
            try:
                rss, cpu = self._process.memory_info().rss, self._process.cpu_percent()
            except psutil.Error:
                self._process = None
        return Memory(
            total_bytes=ram.total,
            available_bytes=ram.available,
            limit_bytes=None,
            engine_rss_bytes=rss,
            engine_file_bytes=None,
            engine_anon_bytes=None,
            swap_used_bytes=psutil.swap_memory().used,
            cpu_pct=psutil.cpu_percent(),
            engine_cpu_pct=cpu,
        )

    def close(self) -> None:
        """Nothing is kept open."""


def _found(pid: int | None) -> psutil.Process | None:
    try:
        return None if pid is None else psutil.Process(pid)
    except psutil.Error:
        return None

"""How fast the disk was while something was read from it."""

from __future__ import annotations

import time
from pathlib import Path

_LEAST_BYTES = 64 * 1024 * 1024


class DiskRate:
    """From its making until it is asked."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _read_bytes()

    def bytes_per_s(self) -> float | None:
        """Of what this process has read from disk; None where that was too little to tell, or is not counted."""
        seconds, after = time.monotonic() - self._began, _read_bytes()
        if self._before is None or after is None or after - self._before < _LEAST_BYTES or seconds <= 0:
            return None
        return (after - self._before) / seconds


def _read_bytes() -> int | None:
    try:
        text = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("read_bytes:")), None)

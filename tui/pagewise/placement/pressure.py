"""Whether memory is short now: stalls that the kernel counts, and pages of files that it took and had to read again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from pagewise.placement.available import Account, memory_accounts

_PAGE_BYTES = 4096
_STALLED = 0.05
"""Share of the time in which some task waited for memory."""
_REFAULTED_BYTES_S = 20e6


class _Counts(NamedTuple):
    at_s: float
    stalled_us: int | None
    refaulted: int | None


class Pressure:
    """Asked again and again, it compares with the time before."""

    def __init__(self, accounts: tuple[Account, ...] | None = None, proc: Path = Path("/proc")) -> None:
        found = memory_accounts() if accounts is None else accounts
        # The nearest group with a limit of its own is whose pages are taken; without one it is the box.
        self._own = next((account for account in found if account.limit is not None), None)
        self._proc = proc
        self._then = self._counts()

    def is_short(self) -> bool:
        """Whether tasks have waited for memory, or pages have come back, since it was asked last."""
        then, now = self._then, self._counts()
        self._then = now
        seconds = now.at_s - then.at_s
        if seconds <= 0:
            return False
        stalled = _difference(then.stalled_us, now.stalled_us) / 1e6 > _STALLED * seconds
        refaulted = _difference(then.refaulted, now.refaulted) * _PAGE_BYTES > _REFAULTED_BYTES_S * seconds
        # On a box without limits the refaults may be anybody's: then only together.
        return stalled and refaulted if self._own is None else stalled or refaulted

    def _counts(self) -> _Counts:
        return _Counts(time.monotonic(), self._stalled(), self._refaulted())

    def _stalled(self) -> int | None:
        own = self._own.folder / "memory.pressure" if self._own is not None else None
        for source in (own, self._proc / "pressure" / "memory"):
            if source is not None and (found := stalled_us(_text(source))) is not None:
                return found
        return None

    def _refaulted(self) -> int | None:
        stat = self._own.stat() if self._own is not None else {}
        names = ("total_workingset_refault_file", "workingset_refault_file")
        if not any(name in stat for name in names):
            lines = (line.split() for line in _text(self._proc / "vmstat").splitlines())
            stat = {fields[0]: int(fields[1]) for fields in lines if len(fields) == 2 and fields[1].isdigit()}
        return next((stat[name] for name in names if name in stat), None)


def stalled_us(text: str) -> int | None:
    """Microseconds in which some task waited, of the text of a pressure file."""
    for line in text.splitlines():
        if line.startswith("some "):
            total = line.rpartition("total=")[2]
            return int(total) if total.isdigit() else None
    return None


def _difference(then: int | None, now: int | None) -> int:
    return max(0, now - then) if then is not None and now is not None else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""

"""What memory and disk of this machine can do at best: measured here, kept, and what the verdict compares with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pagewise.app.figures import rate, size
from pagewise.app.visible import visible_line
from pagewise.doctor.findings import Finding
from pagewise.instruments.counters import disk_under
from pagewise.instruments.system import physical_cores
from pagewise.verdict.disk_peak import BLOCK, THREADS, NoPeak, keep_disk_peak, known_disk_peak
from pagewise.verdict.disk_peak import measure as measure_disk
from pagewise.verdict.roofline import keep_peak, known_peak

_LIMIT_S = 30.0
_ANOTHER = "`pagewise doctor --file MODEL.gguf` names a file on the disk that is meant."


def findings(file: Path | None) -> list[Finding]:
    """Read bandwidth of RAM at the thread count of a decode, and of the disk under ``file``, a model that is there."""
    return [_ram(physical_cores()), _disk(file)]


def _ram(threads: int) -> Finding:
    """The higher of what is measured now and what was known: a busy machine measures too little, never too much."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pagewise.verdict.roofline", str(threads)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        now = float(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        fix = "Free some memory (half a GiB is read), and run it again."
        return Finding("peaks", "RAM read", "warn", f"n/a: it could not be measured with {threads} threads", fix)
    known = known_peak(threads)
    peak = max(now, known or 0.0)
    keep_peak(threads, peak)
    how = f"{threads} {_threads(threads)} reading private memory beyond all caches, the best of six passes"
    return Finding("peaks", "RAM read", "ok", f"{rate(peak)}: {how}{_now(now, peak)}")


def _disk(file: Path | None) -> Finding:
    if file is None:
        return Finding("peaks", "disk read", "note", "n/a: no model file was used last", _ANOTHER)
    shown = visible_line(file.name)
    try:
        disk = disk_under(file).name
    except OSError:
        why = f"n/a: {shown} is not there, or its file system does not lie on one block device"
        return Finding("peaks", "disk read", "note", why, _ANOTHER)
    try:
        measured = measure_disk(file)
    except NoPeak as error:
        return Finding("peaks", "disk read", "note", f"n/a for {shown} on {disk}: {error}", _ANOTHER)
    peak = max(measured.bytes_per_s, known_disk_peak(disk) or 0.0)
    keep_disk_peak(disk, peak)
    how = (
        f"{size(measured.bytes)} of {shown} on {disk} in {measured.seconds:.1f} s, {THREADS} direct reads of "
        f"{size(BLOCK)} at once, past the page cache"
    )
    return Finding("peaks", "disk read", "ok", f"{rate(peak)}: {how}{_now(measured.bytes_per_s, peak)}")


def _threads(n: int) -> str:
    return "thread" if n == 1 else "threads"


def _now(now: float, peak: float) -> str:
    return "" if now >= 0.95 * peak else f" ({rate(now)} this time)"

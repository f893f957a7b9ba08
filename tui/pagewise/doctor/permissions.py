"""What the system lets us look at: the page cache, a process's stacks, pressure."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from pagewise.doctor.findings import Finding
from pagewise.instruments.pagecache import choose

_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")


def findings() -> list[Finding]:
    """Residency, py-spy and pressure."""
    return [_residency(), _stacks(), *_pressure()]


def _residency() -> Finding:
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(65536))
        file.flush()
        way, refusals = choose(Path(file.name), None)
        name = way.name if way is not None else ""
        if way is not None:
            way.close()
    why = "; ".join(f"{entry.metric}: {entry.why}" for entry in refusals)
    if name == "cachestat":
        return Finding("permissions", "residency", "ok", "cachestat: what is cached of files that you own")
    if name:
        fix = "Linux 6.5 or newer has cachestat; a container's seccomp profile must allow system call 451."
        return Finding("permissions", "residency", "note", f"{name} instead of cachestat ({why})", fix)
    return Finding("permissions", "residency", "warn", f"n/a: {why}", "Linux 6.5 or newer has cachestat.")


def _stacks() -> Finding:
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if not found:
        return Finding("permissions", "py-spy", "note", "not installed", "pip install py-spy")
    scope = _text(_SCOPE)
    if scope in ("", "0"):
        return Finding("permissions", "py-spy", "ok", "may look at your own processes")
    if scope == "1":
        fix = "`sudo sysctl kernel.yama.ptrace_scope=0` lifts it for this boot."
        return Finding("permissions", "py-spy", "note", "ptrace_scope 1: only processes that allow it", fix)
    fix = "`sudo sysctl kernel.yama.ptrace_scope=1` (3 needs a reboot)."
    return Finding("permissions", "py-spy", "warn", f"ptrace_scope {scope}: not allowed to look at any process", fix)


def _pressure() -> list[Finding]:
    if not sys.platform.startswith("linux"):
        return []
    if _text(Path("/proc/pressure/io")):
        return [Finding("permissions", "pressure", "ok", "/proc/pressure: time lost to I/O and memory")]
    fix = "Boot with psi=1, or a kernel that has CONFIG_PSI."
    return [Finding("permissions", "pressure", "note", "n/a: this kernel does not report pressure", fix)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""

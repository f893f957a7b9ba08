"""What the system lets us look at: the page cache, stacks, other people's processes, cgroups, pressure."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from pagewise.app.visible import visible_line
from pagewise.doctor.findings import Finding
from pagewise.instruments.cgroup import find_memory_cgroup
from pagewise.instruments.pagecache import choose
from pagewise.instruments.stacks import find_py_spy

_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_OWN_PROCESSES = 2
"""The highest ``perf_event_paranoid`` under which one may sample one's own processes in user space."""


def findings() -> list[Finding]:
    """Residency, tracing, perf, other people's processes, cgroups and pressure."""
    return [_residency(), *_tracing(), _perf(), *_processes(), *_cgroup(), *_pressure()]


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


def _tracing() -> list[Finding]:
    """What flame graphs of Python processes need: py-spy, and Yama's leave to look into a process."""
    found = find_py_spy()
    rows = [
        Finding("permissions", "py-spy", "ok", visible_line(found))
        if found
        else Finding("permissions", "py-spy", "note", "not installed", "pip install py-spy")
    ]
    if not sys.platform.startswith("linux"):
        return rows
    scope = _text(_SCOPE)
    if scope == "":
        what = "this kernel has no Yama: your own processes may be looked into"
        return [*rows, Finding("permissions", "ptrace_scope", "ok", what)]
    if scope == "0":
        return [*rows, Finding("permissions", "ptrace_scope", "ok", "0: your own processes may be looked into")]
    if scope == "1":
        what = "1: flame graphs of our own engine work, of other processes only where they allow it"
        fix = "`sudo sysctl kernel.yama.ptrace_scope=0` lifts it for this boot."
        return [*rows, Finding("permissions", "ptrace_scope", "note", what, fix)]
    fix = "`sudo sysctl kernel.yama.ptrace_scope=1` (3 needs a reboot)."
    what = f"{visible_line(scope)}: no process may be looked into without CAP_SYS_PTRACE"
    return [*rows, Finding("permissions", "ptrace_scope", "warn", what, fix)]


def _perf() -> Finding:
    """What flame graphs of native processes (llama-server) need."""
    if not sys.platform.startswith("linux"):
        return Finding("permissions", "perf", "note", "n/a: perf is Linux's; flame graphs of native processes need it")
    paranoid = _text(_PARANOID)
    if not shutil.which("perf"):
        value = "not installed: native processes (llama-server) have no flame graph"
        return Finding("permissions", "perf", "note", value, "Install linux-perf (Debian), linux-tools (Ubuntu), perf.")
    if not paranoid.lstrip("-").isdigit():
        fix = "A kernel with CONFIG_PERF_EVENTS has them."
        return Finding("permissions", "perf", "note", "n/a: this kernel has no perf events", fix)
    value = f"perf_event_paranoid {paranoid}"
    if os.geteuid() == 0 or int(paranoid) <= _OWN_PROCESSES:
        return Finding("permissions", "perf", "ok", f"{value}: your own processes may be sampled")
    fix = f"`sudo sysctl kernel.perf_event_paranoid={_OWN_PROCESSES}` lifts it for this boot."
    return Finding("permissions", "perf", "note", f"{value}: sampling takes root or CAP_PERFMON", fix)


def _processes() -> list[Finding]:
    """Whose mappings and open files the monitor may read."""
    if not sys.platform.startswith("linux"):
        return []
    open_to_us = closed = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            with (entry / "maps").open("rb") as file:
                file.read(1)
            open_to_us += 1
        except PermissionError:
            closed += 1
        except OSError:
            continue
    if not closed:
        return [Finding("permissions", "processes", "ok", f"all {open_to_us} that are to be seen may be looked into")]
    value = f"{open_to_us} may be looked into, {closed} of others may not: of these the monitor shows memory alone"
    fix = (
        "Not even root may: they are in another user namespace, or a security module protects them."
        if os.geteuid() == 0
        else "`sudo pagewise monitor` sees them; so does an interpreter that is given CAP_SYS_PTRACE."
    )
    return [Finding("permissions", "processes", "note", value, fix)]


def _cgroup() -> list[Finding]:
    """Whether a memory limit can be set for a group of processes."""
    if not sys.platform.startswith("linux"):
        return []
    found = find_memory_cgroup()
    if found is None:
        return [Finding("permissions", "memory cgroup", "note", "n/a: no memory controller is to be seen from here")]
    where = f"version {found.version}, {visible_line(str(found.path))}"
    if os.access(found.path, os.W_OK) and not os.statvfs(found.path).f_flag & os.ST_RDONLY:
        return [Finding("permissions", "memory cgroup", "ok", f"{where}: groups with a limit can be made in it")]
    fix = "Only benchmarks of models larger than memory need one: `systemd-run --user --scope -p MemoryMax=8G …`."
    return [Finding("permissions", "memory cgroup", "note", f"{where}: readable, no groups can be made", fix)]


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

"""Processor and memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

from pagewise.app.figures import size
from pagewise.doctor.findings import Finding
from pagewise.instruments.cgroup import find_memory_cgroup
from pagewise.instruments.portable import PortableSystemInstrument
from pagewise.instruments.processor import processor_name

_FEATURES = ("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "sve", "i8mm")
_SCARCE = 2 * 1024**3


def findings() -> list[Finding]:
    """Processor, RAM and the limits on it."""
    return [*_processor(), *_memory()]


def _processor() -> list[Finding]:
    logical = os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False)
    cores = f"{physical if physical else 'n/a (the system does not say how many)'} physical cores, {logical} logical"
    found = [
        Finding(
            "machine", "system", "ok", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
        ),
        Finding("machine", "CPU", "ok", f"{processor_name()}, {cores}"),
    ]
    features = _features()
    if features:
        found.append(Finding("machine", "CPU features", "ok", " ".join(features)))
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    if allowed < logical:
        found.append(
            Finding(
                "machine",
                "CPU affinity",
                "note",
                f"this process may use {allowed} of {logical} logical CPUs",
                "Start pagewise without taskset, or give the container more CPUs.",
            )
        )
    return found


def _features() -> list[str]:
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            there = set(value.split())
            return [name for name in _FEATURES if name in there]
    return []


def _memory() -> list[Finding]:
    memory = PortableSystemInstrument().sample()
    free = memory.available_bytes
    found = [
        Finding(
            "machine",
            "RAM",
            "warn" if free < _SCARCE else "ok",
            f"{size(memory.total_bytes)}, {size(free)} available, {size(memory.swap_used_bytes)} of swap in use",
            "Close other programs: a model that does not fit is read from disk for each token."
            if free < _SCARCE
            else "",
        )
    ]
    cgroup = find_memory_cgroup() if sys.platform.startswith("linux") else None
    limit = cgroup.limit_bytes() if cgroup else None
    if limit is not None and limit < memory.total_bytes:
        found.append(
            Finding(
                "machine",
                "memory limit",
                "note",
                f"this cgroup may use {size(limit)}, pages of the model file included",
                "Raise the container's memory limit for a model larger than that.",
            )
        )
    else:
        found.append(Finding("machine", "memory limit", "ok", "no cgroup limit below the RAM"))
    found.append(_lockable())
    return found


def _lockable() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        return Finding("machine", "lockable memory", "ok", "unlimited")
    return Finding(
        "machine",
        "lockable memory",
        "note",
        f'{size(soft)}: load_mode = "mlock" locks no more than that',
        "`ulimit -l unlimited`, or a memlock line in /etc/security/limits.conf. mmap needs none of it.",
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []

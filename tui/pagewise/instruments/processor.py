"""What the processor calls itself."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """Its model name on Linux, elsewhere the best that Python knows."""
    return _said("model name") or platform.processor() or platform.machine()


def processor_features() -> frozenset[str]:
    """What Linux says it can do, such as ``avx2``; empty elsewhere."""
    return frozenset(_said("flags").split())


def _said(wanted: str) -> str:
    """Of the first core; empty where nothing is said."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == wanted:
            return value.strip()
    return ""

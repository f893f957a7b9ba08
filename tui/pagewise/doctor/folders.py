"""Where pagewise keeps things, and whether it can."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import platformdirs

from pagewise.app.figures import size
from pagewise.app.visible import visible_line
from pagewise.doctor.findings import Finding

_LITTLE = 64 * 1024**2


def findings() -> list[Finding]:
    """Configuration, conversations, cache and state."""
    return [
        _folder("configuration", platformdirs.user_config_path("pagewise"), "own profiles and themes cannot be saved"),
        _folder("conversations", platformdirs.user_data_path("pagewise"), "conversations are kept in memory only"),
        _folder("cache", platformdirs.user_cache_path("pagewise"), "quant levels of the guide cannot be kept"),
        _folder("state", platformdirs.user_state_path("pagewise"), "last profile and theme are not remembered"),
    ]


def _folder(name: str, path: Path, without: str) -> Finding:
    shown = visible_line(str(path))
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fix = f"Give yourself the right to write to {visible_line(str(there))}."
        return Finding("folders", name, "warn", f"{shown} cannot be written to: {without}", fix)
    free = shutil.disk_usage(there).free
    if free < _LITTLE:
        return Finding("folders", name, "warn", f"{shown}, only {size(free)} free", "Free some space on that disk.")
    return Finding("folders", name, "ok", f"{shown}, {size(free)} free")

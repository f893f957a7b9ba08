"""Peaks that were measured once on this machine, in bytes per second, kept for the next time."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from pathlib import Path

import msgspec
import platformdirs

_decoded: dict[Path, tuple[int, dict[str, float]]] = {}


def kept(what: str, folder: Path | None = None) -> float | None:
    """The peak of ``what`` on this machine; None: never measured."""
    return _read(_file(folder)).get(_key(what))


def keep(what: str, bytes_per_s: float, folder: Path | None = None) -> None:
    """Keep it for the next time. A folder that cannot be written to means that it will be measured again."""
    file = _file(folder)
    peaks = _read(file) | {_key(what): bytes_per_s}
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".roofline-")
        with os.fdopen(descriptor, "wb") as written:
            written.write(msgspec.json.encode(peaks))
        Path(name).replace(file)


def _file(folder: Path | None) -> Path:
    return (folder or platformdirs.user_cache_path("pagewise")) / "roofline.json"


def _read(file: Path) -> dict[str, float]:
    """What is in the file now. The monitor asks at each sample, so that it is only decoded when it has changed."""
    try:
        changed = file.stat().st_mtime_ns
        if file not in _decoded or _decoded[file][0] != changed:
            _decoded[file] = (changed, msgspec.json.decode(file.read_bytes(), type=dict[str, float]))
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return {}
    return _decoded[file][1]


def _key(what: str) -> str:
    # A home folder may be shared by several machines.
    return f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores: {what}"

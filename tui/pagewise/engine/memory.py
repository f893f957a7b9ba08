"""RAM that this process may still take."""

from __future__ import annotations

from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


def available_bytes() -> int:
    """RAM that can be had without swapping: the box's, or what our cgroup's limit leaves if that is less."""
    left = psutil.virtual_memory().available
    limit = _left_in_cgroup()
    return int(left if limit is None else min(left, limit))


def _left_in_cgroup() -> int | None:
    lefts = []
    for folder, limit, used in _accounts():
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None and most < _UNLIMITED:
            lefts.append(max(0, most - now + _reclaimable(folder)))
    return min(lefts, default=None)


def _accounts() -> list[tuple[Path, str, str]]:
    """Our memory cgroup and those above it, of version 1 or 2, with the names of limit and usage."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    found: list[tuple[Path, str, str]] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _ROOT, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = _ROOT / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = root / path.lstrip("/")
        found += [(folder, *names) for folder in (own, *own.parents) if folder == root or root in folder.parents]
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _reclaimable(folder: Path) -> int:
    """Page cache that the kernel would give up first."""
    try:
        text = (folder / "memory.stat").read_text(encoding="ascii")
    except OSError:
        return 0
    values = dict(line.split() for line in text.splitlines() if line.count(" ") == 1)
    return int(values.get("total_inactive_file", values.get("inactive_file", "0")))

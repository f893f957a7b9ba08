"""Memory that pages of files may take: what the box has, or what our memory cgroup's limit leaves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_UNLIMITED = 1 << 60
_HARD, _SOFT = "memory.max", "memory.high"
_MIB = 1024 * 1024
_CGROUP_MARGIN = 20 * _MIB
"""Pages that are charged ahead on each core, page tables, and the small files of a process's own."""
_BOX_MARGIN = 256 * _MIB
_BOX_SHARE = 0.02
"""The kernel begins to reclaim before nothing is free, and other programs come and go."""


class Account(NamedTuple):
    """A memory cgroup, of version 1 or 2, with the names of its limit and its usage."""

    folder: Path
    limit_name: str
    usage_name: str

    @property
    def limit(self) -> int | None:
        """Bytes; None without a limit. Above version 2's soft one tasks are held up until memory is given back."""
        names = (self.limit_name, _SOFT) if self.limit_name == _HARD else (self.limit_name,)
        values = [value for name in names if (value := _number(self.folder / name)) is not None]
        return min((value for value in values if value < _UNLIMITED), default=None)

    @property
    def usage(self) -> int | None:
        """Bytes that are charged now, the page cache included; None where it cannot be read."""
        return _number(self.folder / self.usage_name)

    def stat(self) -> dict[str, int]:
        """``memory.stat``, children included; empty where it cannot be read."""
        try:
            text = (self.folder / "memory.stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return {}
        values = dict(line.split() for line in text.splitlines() if line.count(" ") == 1)
        return {name: int(value) for name, value in values.items() if value.isdigit()}


def memory_accounts(memberships: str | None = None, root: Path = _ROOT) -> tuple[Account, ...]:
    """Our memory cgroup and those above it. ``memberships`` is the text of ``/proc/self/cgroup``."""
    if memberships is None:
        try:
            memberships = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
    found: list[Account] = []
    for line in memberships.splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, (_HARD, "memory.current")
        elif "memory" in controllers.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = top / path.lstrip("/")
        found += [Account(folder, *names) for folder in (own, *own.parents) if folder == top or top in folder.parents]
    return tuple(found)


def room_for_file(accounts: tuple[Account, ...] | None = None, meminfo: Path = _MEMINFO) -> int | None:
    """Bytes of page cache that can be held without reclaim: what is cached now counts as room, since it would go first.

    Margins are taken off. None where this system does not say (not Linux).
    """
    found = memory_accounts() if accounts is None else accounts
    rooms = [room for account in found if (room := _room_in(account)) is not None]
    box = _room_in_box(meminfo)
    if box is not None:
        rooms.append(box)
    return max(0, min(rooms)) if rooms else None


def _room_in(account: Account) -> int | None:
    limit = account.limit
    usage = account.usage if limit is not None else None
    if limit is None or usage is None:
        return None
    stat = account.stat()
    kinds = ("active_file", "inactive_file")
    prefix = "total_" if "total_active_file" in stat else ""
    cached = sum(stat.get(prefix + kind, 0) for kind in kinds)
    return limit - usage + cached - _CGROUP_MARGIN


def _room_in_box(meminfo: Path) -> int | None:
    try:
        text = meminfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    values = {fields[0]: fields[1] for line in text.splitlines() if len(fields := line.replace(":", " ").split()) > 1}
    try:
        total, available = int(values["MemTotal"]) * 1024, int(values["MemAvailable"]) * 1024
    except (KeyError, ValueError):
        return None
    return available - max(_BOX_MARGIN, int(_BOX_SHARE * total))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def anonymous_bytes() -> int:
    """Anonymous memory that this process has touched; 0 where this system does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0

"""The host's standard streams: the protocol moves away from them before anything else, and prints go to a log."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import platformdirs

LOG_VARIABLE = "PAGEWISE_LOG"
_LARGEST_LOG = 1 << 20
_KEPT_LOGS = 5


def take_descriptors(log: Path) -> tuple[int, int]:
    """Move the protocol away from descriptors 0 and 1: (commands, events). Point 1 and 2 at ``log``, 0 at nothing."""
    commands = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10)
    events = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 10)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_suffix(".old.log"))
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        # A read-only home is no reason to have no host; descriptor 2 may be the person's terminal.
        sink = os.dup(null)
    os.dup2(null, 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(null)
    os.close(sink)
    return commands, events


def host_log() -> Path:
    """Where this host's prints go: ``PAGEWISE_LOG``, else a file in the user's log folder."""
    named = os.environ.get(LOG_VARIABLE)
    return Path(named) if named else platformdirs.user_log_path("pagewise") / "host.log"


def engine_log() -> Path:
    """A file for what the engines of this host print. Those of the last few hosts are kept, older ones deleted."""
    folder = host_log().parent
    with contextlib.suppress(OSError):
        logs = sorted(folder.glob("engine-*.log"), key=lambda path: path.stat().st_mtime)
        for old in logs[: max(0, len(logs) - _KEPT_LOGS)]:
            old.unlink(missing_ok=True)
    return folder / f"engine-{os.getpid()}.log"

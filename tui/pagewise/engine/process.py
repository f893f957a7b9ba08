"""What the engine does to its own process before anything else happens in it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

LOG_VARIABLE = "PAGEWISE_LOG"
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 500


def take_descriptors() -> tuple[int, int]:
    """Move the protocol away from descriptors 0 and 1, since native code prints: (commands, events).

    Descriptor 0 becomes ``/dev/null``; 1 and 2 become the log file named by ``PAGEWISE_LOG``, or ``/dev/null``.
    """
    commands = _duplicate(0)
    events = _duplicate(1)
    null = os.open(os.devnull, os.O_RDWR)
    log = _open_log() or null
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for descriptor in {null, log}:
        if descriptor > 2:
            os.close(descriptor)
    return commands, events


def _duplicate(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)


def _open_log() -> int | None:
    path = os.environ.get(LOG_VARIABLE)
    if not path:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        # There is nowhere to say it: descriptor 2 may be the person's terminal.
        return None


def die_with_host(host: int) -> None:
    """Have the kernel end this process when its parent ``host`` ends (Linux; elsewhere the closed pipe does it)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != host:
        os._exit(0)


def let_host_look(host: int) -> None:
    """Let the host and what it starts read this process's stacks where Yama allows that to nobody but ancestors."""
    if sys.platform.startswith("linux"):
        # EINVAL: the kernel has no Yama, and needs no leave.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(host), 0, 0, 0)


def offer_to_oom_killer() -> None:
    """Where memory runs out, the kernel is to end this process and not the host or the person's shell."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    except OSError:
        # Not Linux, or a score that was already higher and must not be lowered: nothing is lost.
        return


def ignore_keyboard() -> None:
    """Ctrl-C in the terminal is for the app alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

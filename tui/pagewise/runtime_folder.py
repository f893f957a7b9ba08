"""The folder for sockets of running hosts: this user's alone, gone with the next boot."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def runtime_folder() -> Path:
    """Where it is: in ``XDG_RUNTIME_DIR``, else in ``/run/user/UID``, else in the folder for temporary files."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    if named:
        return Path(named) / "pagewise"
    run = Path("/run/user") / str(os.getuid())
    if run.is_dir() and os.access(run, os.W_OK):
        return run / "pagewise"
    return Path(tempfile.gettempdir()) / f"pagewise-{os.getuid()}"


def make_runtime_folder() -> Path:
    """The folder, made if it is not there. Raises OSError, also for one that somebody else owns or may enter."""
    folder = runtime_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone (mode 700)")
    return folder

"""Runs a program with a small or read-only file system of its own, so that a full disk is a real one."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@functools.cache
def why_not() -> str:
    """Why file systems cannot be mounted here, or an empty string."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    tried = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no mounting here: {tried.stderr.strip()}"


def run_in_small_disk(program: str, folder: Path, size: str = "512k") -> str:
    """What ``program`` (Python text) prints, with ``folder`` an empty disk of ``size``; its argument is the folder."""
    mounted = f'mount -t tmpfs -o size={size} tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = [*_UNSHARE, "sh", "-c", mounted, "sh", str(folder), sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout

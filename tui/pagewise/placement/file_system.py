"""The file system that a model file is on, where it is one that page cache hints may mean nothing to."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_STATFS_BYTES = 256
_REMOTE = {
    0x6969: "NFS",
    0x65735546: "a FUSE file system",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x517B: "SMB",
    0x01021997: "9p",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x47504653: "GPFS",
    0x2FC12FC1: "ZFS",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
}
"""Magic numbers of statfs(2). ZFS has a cache of its own beside the page cache; tmpfs is itself the page cache."""


def file_system_number(path: Path) -> int | None:
    """The magic number that statfs(2) gives; None where it cannot be had."""
    if not sys.platform.startswith("linux"):
        return None
    buffer = (ctypes.c_long * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), buffer):
        return None
    return buffer[0] & 0xFFFFFFFF


def not_steerable(path: Path) -> str:
    """The name of the file system, if what is read and dropped of a file there is not ours to say; else nothing."""
    number = file_system_number(path)
    return "" if number is None else _REMOTE.get(number, "")

"""A file without a name that lies in memory: the way of a KV cache from one engine to the next."""

from __future__ import annotations

import os
import tempfile

VARIABLE = "PAGEWISE_KV_FILE"
"""Names the descriptor of the host's memory file to an engine that inherits it."""


def memory_file() -> int:
    """The descriptor of a new, empty one, not inherited. It is gone with the last process that has it open.

    Where the system has no files in memory, it is a temporary file that was removed as soon as it was opened.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pagewise-kv", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())

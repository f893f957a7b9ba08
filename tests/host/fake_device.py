"""A device of 10 GiB that is a file, named by ``FAKE_DEVICE``: engines take of it, and others may too."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from pagewise.readings import DeviceMemory, Devices

TOTAL = 10 << 30


def change(ours: int = 0, others: int = 0) -> None:
    """Take so many bytes more, or give them back. Nothing without a device."""
    name = os.environ.get("FAKE_DEVICE")
    if not name:
        return
    with Path(name).open("a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        held = json.loads(file.read() or "[0, 0]")
        file.truncate(0)
        file.write(json.dumps([held[0] + ours, held[1] + others]))


def held() -> tuple[int, int]:
    """(by engines, by others)."""
    try:
        ours, others = json.loads(Path(os.environ["FAKE_DEVICE"]).read_text(encoding="ascii") or "[0, 0]")
    except (KeyError, FileNotFoundError):
        return 0, 0
    return ours, others


def free() -> int:
    """Bytes that are free."""
    return TOTAL - sum(held())


def reading() -> Devices:
    """What a driver would say; no process is told apart."""
    if "FAKE_DEVICE" not in os.environ:
        return Devices((), "no device")
    memory = DeviceMemory("Fake", 0, "gpu", TOTAL, sum(held()), None, False, None, None, None, None, "NVML")
    return Devices((memory,))

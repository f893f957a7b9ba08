"""A host whose engines are scripts, whose device is a file, and whose watchdog has little patience."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import fake_device

from pagewise.host import device_watch
from pagewise.host.main import main
from pagewise.host.sampler import Sampler
from pagewise.host.upkeep import Pressure, PressureGauge
from pagewise.host.watchdog import Limits
from pagewise.readings import Devices


async def devices(_: Sampler) -> Devices:
    """Readings of the device that is a file."""
    return fake_device.reading()


async def pressure(_: PressureGauge) -> Pressure:
    """Memory is short as long as there is a file named by ``FAKE_PRESSURE``."""
    short = await asyncio.to_thread(os.path.exists, os.environ.get("FAKE_PRESSURE", "/nowhere"))
    return Pressure(0 if short else 1 << 40, 1 << 40, None, None, None)


if __name__ == "__main__":
    Sampler.devices = devices  # type: ignore[method-assign]
    PressureGauge.read = pressure  # type: ignore[method-assign]
    device_watch.PATIENCE_S = 0.5
    main((sys.executable, str(Path(__file__).with_name("fake_engine.py"))), Limits(stop=1.0, answer=1.5, hang=2.5))

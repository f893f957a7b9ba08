"""The memory of the machine that a model could have, as the instruments read it now."""

from __future__ import annotations

import asyncio

from pagewise.host.gauges import system_instrument
from pagewise.host.jobs.job import Job
from pagewise.instruments.devices import DevicesInstrument
from pagewise.jobs.catalog import Room


async def free_memory(job: Job) -> Room:
    """Free memory, with what the engine of the conversation holds: it would be given back."""
    engine = job.slot.engine
    return await asyncio.to_thread(_read, engine.pid if engine is not None else None)


def _read(pid: int | None) -> Room:
    system = system_instrument(pid)
    try:
        memory = system.sample()
    finally:
        system.close()
    total = memory.total_bytes if memory.limit_bytes is None else min(memory.total_bytes, memory.limit_bytes)
    available = min(memory.available_bytes + (memory.engine_anon_bytes or 0), total)
    devices = DevicesInstrument().sample(pid).devices
    totals = [device.total_bytes for device in devices if device.total_bytes is not None]
    free = [
        device.total_bytes - device.used_bytes + (device.ours_bytes or 0)
        for device in devices
        if device.total_bytes is not None and device.used_bytes is not None
    ]
    return Room(total, available, sum(totals) if totals else None, sum(free) if free else None)

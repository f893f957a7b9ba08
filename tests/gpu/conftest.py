"""The GPU round runs where this llama.cpp has a GPU, and says why where it has none."""

from __future__ import annotations

import asyncio

import pytest

from pagewise.client import HostClient
from pagewise.messages import EngineHello, Load, Loaded, LoadFailed
from pagewise.settings import Profile


async def _devices() -> tuple[str, ...]:
    client = HostClient()
    await client.start()
    try:
        found: tuple[str, ...] = ()
        client.send(Load(1, Profile(name="probe", n_gpu_layers=0, n_ctx=256)))
        async for event in client.events():
            if isinstance(event, EngineHello):
                found = event.devices
            if isinstance(event, (Loaded, LoadFailed)):
                return found
        return found
    finally:
        await client.close()


@pytest.fixture(scope="session", autouse=True)
def gpu() -> str:
    """Name of the first GPU that this llama.cpp can use."""
    devices = asyncio.run(_devices())
    usable = [device for device in devices if not device.startswith("CPU")]
    if not usable:
        pytest.skip(f"this llama.cpp sees no GPU (devices: {', '.join(devices) or 'none'})")
    return usable[0]

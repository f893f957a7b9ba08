"""Plans on a GPU: predicted against taken, and fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gpu.test_round import MIB, host, load, model, reply

from pagewise.client import HostClient
from pagewise.jobs.plan import MakePlan, MemoryPlan, Planned
from pagewise.messages import Event, Loaded
from pagewise.settings import Profile

pytestmark = pytest.mark.gpu
__all__ = ["model"]


async def plan(client: HostClient, events: AsyncIterator[Event], number: int, profile: Profile) -> MemoryPlan:
    """The plan of a profile."""
    client.send(MakePlan(number, profile))
    async for event in events:
        if isinstance(event, Planned) and event.id == number:
            return event.plan
    raise AssertionError("the host has ended")


@pytest.mark.parametrize("layers", [0, 12, "all"])
async def test_what_is_planned_is_what_is_taken(model: Path, layers: int | str) -> None:
    async with host() as (client, events):
        profile = Profile(name="gpu", model=str(model), n_gpu_layers=layers, n_ctx=8192)  # type: ignore[arg-type]
        planned = await plan(client, events, 1, profile)
        assert planned.fits and not planned.estimate
        loaded = await load(client, events, 2, profile)
        assert isinstance(loaded, Loaded), loaded
        by_name = {device.device: device for device in planned.devices}
        for entry in loaded.model.planned:
            print(
                f"layers {layers}: {entry.device} planned {entry.predicted_bytes / MIB:.0f} MiB, "
                f"taken {entry.actual_bytes / MIB:.0f} MiB"
            )
            assert entry.within_target
            if entry.device != "RAM":
                device = by_name[entry.device]
                assert device.weights_bytes + device.kv_bytes + device.compute_bytes == entry.predicted_bytes
        again = await plan(client, events, 3, profile)
        freed = {device.device: device.freed_bytes for device in again.devices}
        assert all(freed[entry.device] >= 0.9 * entry.actual_bytes for entry in loaded.model.planned[1:])


async def test_fit_leaves_its_margin(model: Path) -> None:
    async with host() as (client, events):
        whole = (await plan(client, events, 1, Profile(name="all", model=str(model), n_ctx=8192))).devices[1]
        assert whole.free_bytes is not None
        margin = (whole.free_bytes - whole.needed_bytes * 6 // 10) // MIB
        fit = Profile(name="fit", model=str(model), n_ctx=8192, n_gpu_layers="fit", fit_margin=f"{margin}MiB")
        planned = await plan(client, events, 2, fit)
        device = planned.devices[1]
        assert planned.fits and planned.placed is not None and 0 < planned.offloaded_layers < planned.n_layer + 1
        assert device.free_bytes is not None
        left = device.free_bytes - device.needed_bytes
        assert margin * MIB <= left + 64 * MIB and left < (margin + 512) * MIB
        loaded = await load(client, events, 3, fit)
        assert isinstance(loaded, Loaded), loaded
        assert loaded.model.offloaded_layers == planned.offloaded_layers
        ids, _ = await reply(client, events, 4)
        assert ids

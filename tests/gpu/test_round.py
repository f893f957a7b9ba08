"""The round on a GPU: offload, VRAM against NVML, the layer clock on both devices, a switch, a load that cannot fit."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.synthetic import Shape, make_model

from pagewise.client import HostClient
from pagewise.messages import ChatMessage, Event, Finished, Generate, Layers, Load, Loaded, LoadFailed, Reading, Tokens
from pagewise.readings import DeviceMemory
from pagewise.settings import Profile, Sampling

pytestmark = pytest.mark.gpu

MIB = 1 << 20
SHAPE = Shape(n_layer=24, n_embd=2048, n_ff=8192, n_head=16, n_head_kv=4, n_vocab=32000, weights="Q8_0")
GREEDY = Sampling(temperature=0.0, max_tokens=48)


@pytest.fixture(scope="module")
def model() -> Path:
    """A model big enough to matter: PAGEWISE_GPU_MODEL, or about 1.7 GB of random weights."""
    given = os.environ.get("PAGEWISE_GPU_MODEL")
    return Path(given) if given else make_model(SHAPE)


@asynccontextmanager
async def host() -> AsyncIterator[tuple[HostClient, AsyncIterator[Event]]]:
    """A host of our own."""
    client = HostClient()
    await client.start()
    try:
        yield client, client.events()
    finally:
        await client.close()


async def load(client: HostClient, events: AsyncIterator[Event], number: int, profile: Profile) -> Loaded | LoadFailed:
    """Load a profile and wait for what comes of it."""
    client.send(Load(number, profile))
    async for event in events:
        if isinstance(event, (Loaded, LoadFailed)) and event.id == number:
            return event
    raise AssertionError("the host has ended")


async def reply(client: HostClient, events: AsyncIterator[Event], number: int) -> tuple[list[int], list[Layers]]:
    """Token ids and layer clocks of a greedy reply."""
    ids: list[int] = []
    clocks: list[Layers] = []
    client.send(Generate(number, (ChatMessage("user", "Tell me a story."),), GREEDY))
    async for event in events:
        if isinstance(event, Tokens):
            ids += event.ids
        elif isinstance(event, Layers):
            clocks.append(event)
        elif isinstance(event, Finished) and event.id == number:
            assert event.failure is None, event.failure
            return ids, clocks
    raise AssertionError("the host has ended")


async def device(events: AsyncIterator[Event]) -> DeviceMemory:
    """The first device of the next snapshot."""
    async for event in events:
        if isinstance(event, Reading) and event.snapshot.devices.devices:
            return event.snapshot.devices.devices[0]
    raise AssertionError("the host has ended")


@pytest.mark.parametrize("layers", [0, 12, "all"])
async def test_offload_is_what_was_asked_for_and_vram_agrees_with_nvml(model: Path, layers: int | str) -> None:
    async with host() as (client, events):
        profile = Profile(name="gpu", model=str(model), n_gpu_layers=layers, n_ctx=2048, probe_every=4)
        loaded = await load(client, events, 1, profile)
        assert isinstance(loaded, Loaded), loaded
        placement = loaded.model.placement
        wanted = len(placement) - 1 if layers == "all" else int(layers)
        assert loaded.model.offloaded_layers == wanted
        _, clocks = await reply(client, events, 2)
        assert clocks, "no token was probed"
        clock = clocks[-1].clock
        assert dict(zip(clock.names, clock.devices, strict=True)) == {entry.name: entry.device for entry in placement}
        ours = sum(entry.bytes for entry in loaded.model.buffers if not entry.device.startswith("CPU"))
        seen = await device(events)
        assert seen.ours_bytes is not None, seen.missing
        print(f"layers {layers}: buffers {ours / MIB:.0f} MiB, ours by NVML {seen.ours_bytes / MIB:.0f} MiB")
        if wanted:
            assert ours <= seen.ours_bytes + 100 * MIB


async def test_a_load_that_cannot_fit_is_rolled_back(model: Path) -> None:
    async with host() as (client, events):
        small = Profile(name="small", model=str(model), n_gpu_layers="all", n_ctx=2048)
        assert isinstance(await load(client, events, 1, small), Loaded)
        before, _ = await reply(client, events, 2)
        huge = Profile(name="huge", model=str(model), n_gpu_layers="all", n_ctx=0, n_batch=16384, n_ubatch=16384)
        failed = await load(client, events, 3, huge)
        if isinstance(failed, Loaded):
            pytest.skip("this GPU is large enough even for that")
        assert failed.restored == "small"
        after, _ = await reply(client, events, 4)
        assert after == before


async def test_a_switch_of_the_split_goes_on_with_the_conversation(model: Path) -> None:
    async with host() as (client, events):
        profile = Profile(name="all", model=str(model), n_gpu_layers="all", n_ctx=2048)
        assert isinstance(await load(client, events, 1, profile), Loaded)
        await reply(client, events, 2)
        half = Profile(name="half", model=str(model), n_gpu_layers=12, n_ctx=2048)
        loaded = await load(client, events, 3, half)
        assert isinstance(loaded, Loaded)
        assert loaded.change == "model"
        ids, _ = await reply(client, events, 4)
        assert ids

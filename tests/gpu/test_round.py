"""The round on a GPU: offload, VRAM against NVML, the layer clock on both devices, a switch, a load that cannot fit.

And what the device does meanwhile: bandwidth of its memory, PCIe, clocks, energy.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.synthetic import Shape, make_model

from pagewise.client import HostClient
from pagewise.messages import (
    ChatMessage,
    Event,
    Finished,
    Generate,
    Judged,
    Layers,
    Load,
    Loaded,
    LoadFailed,
    Reading,
    SetRate,
    Tokens,
)
from pagewise.readings import DeviceMemory
from pagewise.settings import Profile, Sampling

pytestmark = pytest.mark.gpu

MIB = 1 << 20
SHAPE = Shape(n_layer=24, n_embd=2048, n_ff=8192, n_head=16, n_head_kv=4, n_vocab=32000, weights="Q8_0")
GREEDY = Sampling(temperature=0.0, max_tokens=48)
LONG = Sampling(temperature=0.0, max_tokens=1500)


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


async def turn(
    client: HostClient, events: AsyncIterator[Event], number: int
) -> tuple[Finished, Judged, list[DeviceMemory]]:
    """A long greedy reply, its verdict, and the device as it was read while tokens came."""
    seen: list[DeviceMemory] = []
    finished: Finished | None = None
    first = False
    client.send(Generate(number, (ChatMessage("user", "Tell me a long story."),), LONG))
    async for event in events:
        if isinstance(event, Tokens):
            first = True
        elif isinstance(event, Reading) and first and finished is None and event.snapshot.devices.devices:
            seen.append(event.snapshot.devices.devices[0])
        elif isinstance(event, Finished) and event.id == number:
            assert event.failure is None, event.failure
            finished = event
        elif isinstance(event, Judged) and event.id == number:
            assert finished is not None
            return finished, event, seen
    raise AssertionError("the host has ended")


def told(seen: list[DeviceMemory], metric: str) -> list[float]:
    """What was read of ``metric``; the test is skipped with the driver's reason where it never was."""
    values = [value for device in seen if (value := getattr(device, metric)) is not None]
    if not values:
        why = {entry.why for device in seen for entry in device.missing if entry.metric == metric}
        pytest.skip(f"{metric}: {'; '.join(sorted(why)) or 'no reading came while tokens came'}")
    return values


LongTurn = tuple[Loaded, Finished, Judged, list[DeviceMemory]]


@pytest.fixture(scope="module")
def long_turn(model: Path) -> LongTurn:
    """The second of two long replies with all layers on the GPU, ten readings a second, the probe off."""

    async def run() -> LongTurn:
        profile = Profile(name="all", model=str(model), n_gpu_layers="all", n_ctx=4096, probe_every=0)
        async with host() as (client, events):
            client.send(SetRate(10.0))
            loaded = await load(client, events, 1, profile)
            assert isinstance(loaded, Loaded), loaded
            await turn(client, events, 2)
            return loaded, *await turn(client, events, 3)

    return asyncio.run(run())


def test_dram_bandwidth_is_what_the_weights_take(long_turn: LongTurn) -> None:
    """GPM counts every byte: at least the weights of each token, and no more than the peak."""
    loaded, finished, judged, seen = long_turn
    measured = statistics.median(told(seen, "dram_bytes_s"))
    assert finished.timing is not None and finished.timing.tpot_ms is not None
    needed = loaded.model.bytes_per_token / finished.timing.tpot_ms * 1000.0
    (peak, *_) = told(seen, "dram_peak_bytes_s")
    print(f"DRAM {measured / 1e9:.0f} GB/s by GPM, {needed / 1e9:.0f} GB/s by weights, peak {peak / 1e9:.0f} GB/s")
    print(f"bound by {judged.verdict.bound_by}: {judged.verdict.why} {judged.verdict.advice}")
    assert 0.7 * needed <= measured <= 1.02 * peak


def test_pcie_stays_below_what_the_link_carries(long_turn: LongTurn) -> None:
    _, _, _, seen = long_turn
    received, sent = told(seen, "pcie_rx_bytes_s"), told(seen, "pcie_tx_bytes_s")
    peak = max(told(seen, "pcie_peak_bytes_s"))
    print(f"PCIe ↓{max(received) / 1e6:.0f} ↑{max(sent) / 1e6:.0f} MB/s of {peak / 1e9:.1f} GB/s")
    assert max(*received, *sent) <= 1.05 * peak


def test_clocks_are_within_what_the_device_has(long_turn: LongTurn) -> None:
    _, _, _, seen = long_turn
    clocks, (most, *_) = told(seen, "sm_clock_mhz"), told(seen, "sm_clock_max_mhz")
    told(seen, "held_back")
    print(f"SM {min(clocks):.0f} to {max(clocks):.0f} of {most:.0f} MHz, held back by {seen[-1].held_back}")
    assert 0 < max(clocks) <= most


def test_energy_agrees_with_power_and_time(long_turn: LongTurn) -> None:
    _, _, judged, seen = long_turn
    if judged.energy is None:
        pytest.skip(judged.why_no_energy)
    power = statistics.fmean(told(seen, "power_w"))
    counted = judged.energy.joules / judged.energy.seconds
    print(f"{judged.energy.per_token_j:.2f} J/token by {judged.energy.source}: {counted:.0f} W, read {power:.0f} W")
    # The driver's power is a mean over the last second, which begins before the turn does.
    assert 0.6 * power <= counted <= 1.7 * power


def test_every_metric_has_a_value_or_a_reason(long_turn: LongTurn) -> None:
    _, _, _, seen = long_turn
    for device in seen[1:]:
        unknown = {name for name in device.__struct_fields__ if getattr(device, name) is None}
        assert unknown <= {entry.metric for entry in device.missing}


def test_ggml_names_the_device_that_nvml_reads(long_turn: LongTurn) -> None:
    loaded, finished, _, seen = long_turn
    assert [device.name for device in finished.devices] == [device.name for device in loaded.devices]
    assert seen[-1].ggml in {device.name for device in finished.devices}
    assert any(device.pci == seen[-1].pci for device in finished.devices if device.pci) or not finished.devices[0].pci

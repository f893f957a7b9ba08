"""What the host makes of a turn on a GPU: the verdict with the device's own figures, and the energy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from pagewise.host.judge import Judge
from pagewise.host.turn import Turn
from pagewise.messages import Generate, Judged, ModelInfo, Tokens, encode
from pagewise.readings import (
    BufferBytes,
    DeviceMemory,
    Devices,
    LayerClock,
    LayerPlacement,
    Memory,
    Snapshot,
    TurnTiming,
)

GIB = 1 << 30
GPU = DeviceMemory(
    "H200", 0, "gpu", 140 * GIB, 44 * GIB, 43 * GIB, False, 97.0, 64.0, 500.0, 61.0, "NVML",
    dram_bytes_s=3.4e12, dram_peak_bytes_s=4.9e12, pcie_rx_bytes_s=1e9, pcie_tx_bytes_s=1e8, pcie_peak_bytes_s=63e9,
)  # fmt: skip
MODEL = ModelInfo(
    path="/m.gguf", name="m", architecture="llama", quant="Q8_0", n_params=1, file_bytes=40 * GIB, n_layer=1,
    n_ctx=4096, n_ctx_train=4096, n_batch=2048, n_ubatch=512, threads=8, threads_batch=8, flash_attention=True,
    load_mode="mmap", repacked=False, has_chat_template=True, vocabulary="v",
    placement=(
        LayerPlacement("input", "CPU", "mapped", GIB, 0, 0),
        LayerPlacement("0", "CUDA0", "device", 0, 0, 40 * GIB),
        LayerPlacement("output", "CUDA0", "device", 0, 0, GIB),
    ),
    buffers=(BufferBytes("CUDA0", "CUDA0", "weights", 41 * GIB), BufferBytes("CPU", "CPU", "weights", GIB)),
    offloaded_layers=2, bytes_per_token=40 * GIB, kv_bytes_per_token=0, load_ms=1.0, context_ms=1.0,
)  # fmt: skip
TIMING = TurnTiming(
    ttft_ms=100.0, queue_ms=0.0, template_ms=1.0, prefill_ms=90.0, first_sample_ms=9.0, ttft_text_ms=100.0,
    tpot_ms=12.5, itl_ms=(), n_prompt=9, n_reused=0, n_output=201, depth=10, kv_used=210, n_ctx=4096,
    loop_cost_ms=0.1, n_probed=0, probe_cost_pct=None, cold=False,
)  # fmt: skip


class Box:
    """The sampler of a box with one GPU, and the outlet to its app."""

    def __init__(self) -> None:
        self.devices_now = (GPU,)
        self.counters = [(1000.0, 10.0), (2250.0, 12.5)]
        self.sent: list[Judged] = []
        self.judged = asyncio.Event()

    async def devices(self) -> Devices:
        return Devices(self.devices_now)

    async def energy_j(self, devices: Sequence[DeviceMemory]) -> tuple[float, float] | None:
        assert devices == (GPU,)
        return self.counters.pop(0)

    def send(self, event: Judged) -> None:
        self.sent.append(event)
        self.judged.set()


@pytest.fixture
def box() -> Box:
    return Box()


def snapshot(*devices: DeviceMemory) -> Snapshot:
    memory = Memory(64 * GIB, 32 * GIB, None, None, None, None, 0, 10.0, None)
    return Snapshot(1.0, 1, Devices(devices), memory, None, None)


async def judged(box: Box, model: ModelInfo, *seen: Snapshot) -> Judged:
    """One turn from its first token to its verdict."""
    judge = Judge(box, box)  # type: ignore[arg-type]
    judge.on_loaded(model)
    await asyncio.sleep(0)
    turn = Turn(Generate(7, ()), os.getpid())
    first = encode(Tokens(7, (1,), "a", 1, 10, 1.0))[5:]
    assert turn.on_stream(first) and not turn.on_stream(first)
    judge.on_first_token(turn, model)
    for one in seen:
        judge.on_snapshot(one, idle=False)
        turn.on_snapshot(one)
    judge.on_finished(turn, TIMING, model)
    turn.close()
    await asyncio.wait_for(box.judged.wait(), 10.0)
    judge.close()
    return box.sent[0]


async def test_the_gpus_own_bandwidth_and_its_energy(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = await judged(box, MODEL, snapshot(GPU))
    assert found.verdict.bound_by == "VRAM bandwidth"
    assert "GPU's own monitor counted" in found.verdict.why and "(Q4_K_M)" in found.verdict.advice
    assert found.energy is not None
    assert (found.energy.joules, found.energy.tokens, found.energy.per_token_j) == (1250.0, 200, 6.25)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Judged) == found


def clock(demand: tuple[int, ...], ahead: tuple[int, ...]) -> LayerClock:
    names = ("input", "0", "output")
    return LayerClock(2, 12.0, names, (1.0, 10.0, 1.0), ("CPU",) * 3, (), (0,) * 3, 0.1, (), 0, demand, ahead)


async def test_who_read_is_taken_from_the_tokens_that_were_probed(box: Box) -> None:
    judge = Judge(box, box)  # type: ignore[arg-type]
    turn = Turn(Generate(7, ()), os.getpid())
    turn.clocks += [clock((0, 100, 0), (0, 0, 30)), clock((0, 300, 0), (0, 0, 50)), clock((), ())]
    found = judge.evidence(turn, TIMING, MODEL)
    assert (found.demand_bytes, found.read_ahead_bytes) == (200.0, 40.0)
    turn.clocks[:] = [clock((), ())]
    found = judge.evidence(turn, TIMING, MODEL)
    assert found.demand_bytes is None and found.read_ahead_bytes is None
    turn.close()
    judge.close()


async def test_a_full_link_is_what_bounds(box: Box) -> None:
    full = replace(GPU, pcie_rx_bytes_s=45e9, dram_bytes_s=1e12)
    found = await judged(box, MODEL, snapshot(full), snapshot(full))
    assert found.verdict.bound_by == "PCIe" and "71 % of what it carries" in found.verdict.why


async def test_a_model_in_ram_draws_nothing_from_the_gpu(box: Box) -> None:
    buffers = (BufferBytes("CPU", "CPU", "weights", 41 * GIB), BufferBytes("CUDA0", "CUDA0", "compute", GIB))
    on_cpu = replace(MODEL, buffers=buffers, placement=(LayerPlacement("0", "CPU", "mapped", 40 * GIB, 0, 0),))
    found = await judged(box, on_cpu, snapshot(GPU))
    assert found.energy is None and found.why_no_energy == "no device holds a part of the model"
    assert len(box.counters) == 2


@pytest.mark.parametrize(("ggml", "free"), [("CUDA0", 96 * GIB), ("", None)])
async def test_room_on_a_gpu_counts_only_where_this_llama_cpp_can_use_it(box: Box, ggml: str, free: int | None) -> None:
    on_cpu = replace(MODEL, buffers=(), placement=(LayerPlacement("0", "CPU", "mapped", 40 * GIB, 0, 0),))
    judge = Judge(box, box)  # type: ignore[arg-type]
    judge.on_snapshot(snapshot(replace(GPU, ggml=ggml)), idle=False)
    turn = Turn(Generate(7, ()), os.getpid())
    found = judge.evidence(turn, TIMING, on_cpu)
    turn.close()
    assert found.vram_free_bytes == free
    assert (found.vram_peak_bytes_s is None) == (free is None)

"""The driver's share of a device, learned from what is ours there and not llama.cpp's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.host.talk import PATIENCE_S

from pagewise.host.learning import Learning
from pagewise.jobs.plan import Compared
from pagewise.profiles.learned import read_learned
from pagewise.readings import BufferBytes, DeviceMemory

MIB = 1024 * 1024


def model(gpu_mib: int, *planned: Compared) -> Any:
    buffers = (
        BufferBytes("CPU", "CPU_Mapped", "weights", 100 * MIB),
        BufferBytes("CUDA0", "CUDA0", "weights", (gpu_mib - 10) * MIB),
        BufferBytes("CUDA0", "CUDA0", "kv", 10 * MIB),
    )
    return SimpleNamespace(buffers=buffers, planned=planned, path="/m.gguf", file_bytes=5)


def snapshot(*ours_mib: int | None) -> Any:
    devices = tuple(
        DeviceMemory(
            f"card {index}", index, "gpu", None, None, None if ours is None else ours * MIB, False,
            None, None, None, None, "NVML",
        )
        for index, ours in enumerate(ours_mib)
    )  # fmt: skip
    return SimpleNamespace(devices=SimpleNamespace(devices=devices))


async def until(true: Callable[[], bool]) -> None:
    async def watch() -> None:
        while not true():  # noqa: ASYNC110 - a file sends no event
            await asyncio.sleep(0.01)

    await asyncio.wait_for(watch(), PATIENCE_S)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


async def test_the_share_grows_with_what_the_driver_loads() -> None:
    learning = Learning()
    learning.on_snapshot(snapshot(400))
    learning.on_loaded(model(1000))
    for ours in (None, 900, 1300, 1310, 1500, 1400):
        learning.on_snapshot(snapshot(ours, 7000))
    await until(lambda: read_learned().driver("CUDA0") == 500 * MIB)
    assert read_learned().drivers == {"CUDA0": 500 * MIB}


async def test_what_cannot_be_the_drivers_is_not_learned() -> None:
    learning = Learning()
    learning.on_loaded(model(1000))
    learning.on_snapshot(snapshot(9000))
    learning.on_snapshot(snapshot(1200))
    await until(lambda: read_learned().driver("CUDA0") is not None)
    assert read_learned().driver("CUDA0") == 200 * MIB


async def test_one_load_is_kept_once() -> None:
    learning = Learning()
    first, second = (Compared("CUDA0", 1, size, 512, 4) for size in (1, 2))
    for planned in (first, first, second):
        learning.on_loaded(model(1000, planned))
    await until(lambda: read_learned().last("m.gguf:5") == (second,))
    assert [load.devices for load in read_learned().models["m.gguf:5"]] == [(first,), (second,)]

"""Whether a model fits beside others, and when memory counts as short."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests.synthetic import make_model

from pagewise.host import room
from pagewise.host.room import fits_beside, need
from pagewise.host.upkeep import Pressure
from pagewise.messages import ModelInfo
from pagewise.readings import DeviceMemory, Devices, LayerPlacement
from pagewise.settings import Profile

GIB = 1 << 30
NO_DEVICE = Devices((), "none")


def device(total: int, used: int | None) -> Devices:
    return Devices((DeviceMemory("A", 0, "gpu", total, used, None, False, None, None, None, None, "NVML"),))


@pytest.fixture
def model() -> Profile:
    return Profile(name="small", model=str(make_model()), n_ctx=512)


def test_need_is_the_file_and_its_cache(model: Profile) -> None:
    size = Path(model.model).stat().st_size
    alone, on_device = need(model, has_device=False), need(model, has_device=True)
    assert alone is not None and on_device is not None
    assert size < alone.ram < size + (2 << 20) and alone.device == 0
    assert (on_device.ram, on_device.device) == (0, alone.ram)
    half = need(Profile(name="half", model=model.model, n_ctx=512, n_gpu_layers=2), has_device=True)
    assert half is not None and 0 < half.device < half.ram


def test_what_cannot_be_told_is_left_to_the_load() -> None:
    assert need(Profile(name="gone", model="/nowhere/model.gguf"), has_device=False) is None
    assert fits_beside(Profile(name="gone", model="/nowhere/model.gguf"), [], device(GIB, GIB))


@pytest.mark.parametrize(
    ("free", "held", "fits"), [(4 * GIB, 0, True), (4 * GIB, 4 * GIB, False), (GIB // 4, 0, False), (None, GIB, True)]
)
def test_pages_of_held_models_are_not_room(
    model: Profile, monkeypatch: pytest.MonkeyPatch, free: int | None, held: int, fits: bool
) -> None:
    monkeypatch.setattr(room, "free_ram", lambda: free)
    other = SimpleNamespace(placement=(LayerPlacement("0", "CPU", "mapped", held, 0, 0),))
    assert fits_beside(model, [cast(ModelInfo, other)], NO_DEVICE) == fits


def test_a_device_must_have_room_too(model: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_ram", lambda: 64 * GIB)
    assert fits_beside(model, [], device(8 * GIB, 2 * GIB))
    assert not fits_beside(model, [], device(8 * GIB, 8 * GIB - GIB // 2))
    assert fits_beside(model, [], device(8 * GIB, None)), "a driver that does not tell is no reason"


@pytest.mark.parametrize(
    ("pressure", "why"),
    [
        (Pressure(8 * GIB, 16 * GIB, None, None, 0.05), ""),
        (Pressure(GIB // 8, 16 * GIB, None, None, None), "0.1 GiB of RAM"),
        (Pressure(8 * GIB, 16 * GIB, None, None, 0.5), "50 %"),
        (Pressure(8 * GIB, 16 * GIB, GIB // 8, 16 * GIB, None), "device memory"),
        (Pressure(8 * GIB, 16 * GIB, 2 * GIB, 16 * GIB, None), ""),
        (Pressure(None, 16 * GIB, None, None, None), ""),
    ],
)
def test_short_memory(pressure: Pressure, why: str) -> None:
    assert why in pressure.why and bool(pressure.why) == bool(why)

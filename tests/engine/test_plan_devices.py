"""Plans on devices that are made up: llama.cpp's word on them is replaced, and what it would place there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from tests.engine.harness import profile
from tests.synthetic import make_hollow

from pagewise.engine import planning
from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library, plan
from pagewise.engine.llamacpp.model import ModelFile
from pagewise.engine.llamacpp.plan import CPU, Parts, Sizes
from pagewise.engine.planning import Planner
from pagewise.jobs.plan import MemoryPlan
from pagewise.models.offload import RAM, layer_homes, weights_by_home
from pagewise.profiles.learned import learn_driver
from pagewise.readings import GgmlDevice
from pagewise.settings import Profile

MIB = 1024 * 1024
KV, COMPUTE = 8 * MIB, 100 * MIB


class Box(NamedTuple):
    """A machine with these bytes free on its devices."""

    free: dict[str, int]
    measured: list[Profile]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Box]:
    def made(**free: int) -> Box:
        found = Box({name: mib * MIB for name, mib in free.items()}, [])
        devices = tuple(library.Device(name, f"card of {name}", "gpu") for name in free)
        monkeypatch.setattr(library, "accelerators", lambda: devices)
        monkeypatch.setattr(planning, "upstream_fit", lambda *_: None)
        monkeypatch.setattr(
            planning,
            "device_memory",
            lambda _: tuple(
                GgmlDevice(name, "card", "gpu", "", 24_000 * MIB if mib else 0, mib, 0)
                for name, mib in found.free.items()
            ),
        )

        def measure(file: ModelFile, wanted: Profile) -> Sizes:
            found.measured.append(wanted)
            return placed(file, wanted, found.free)

        monkeypatch.setattr(planning, "measure", measure)
        return found

    return made


def placed(file: ModelFile, wanted: Profile, free: dict[str, int]) -> Sizes:
    n_layer = file.number("block_count", 0)
    layers = wanted.n_gpu_layers if isinstance(wanted.n_gpu_layers, int) else n_layer + 1
    homes = layer_homes(n_layer, layers, wanted.tensor_split or tuple(map(float, free.values())))
    overrides = [(pattern, RAM) for pattern, _ in planning.compiled(wanted.tensor_overrides)]
    weights = weights_by_home(file.header.tensors, n_layer, homes, overrides)
    kv = KV * wanted.n_ctx // 1024
    devices = {CPU: Parts(weights.get(RAM, 0), kv * homes[:n_layer].count(RAM), MIB)}
    for index, name in enumerate(free):
        devices[name] = Parts(weights.get(index, 0), kv * homes[:n_layer].count(index), COMPUTE)
    return Sizes(devices, 0, (), wanted.n_ctx, n_layer, n_layer + 1 - homes.count(RAM), False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """32 layers of 50 MiB, and an output of 16."""
    return make_hollow(tmp_path / "m.gguf", n_layer=32, n_embd=2048, n_ff=2560, n_head=16, n_head_kv=8, n_vocab=4096)


def make(wanted: Profile) -> MemoryPlan:
    return Planner(lambda: False).plan(wanted, None)


def test_it_fits_on_the_device(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=4000)
    found = make(profile(model))
    assert found.fits and [device.device for device in found.devices] == ["RAM", "CUDA0"]
    cuda = found.devices[1]
    assert cuda.weights_bytes > 1500 * MIB and cuda.kv_bytes == 32 * KV and cuda.free_bytes == 4000 * MIB
    assert found.offloaded_layers == 33 and cuda.driver_bytes is None and cuda.description == "card of CUDA0"


def test_it_does_not_fit_and_what_would(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=3000)
    wanted = profile(model, n_gpu_layers="all", fit_margin="300MiB", n_ctx=4096)
    found = make(wanted)
    assert not found.fits and any("CUDA0 is too small" in note for note in found.notes)
    changes = {change.key: change for change in found.would_fit}
    layers = int(changes["n_gpu_layers"].value)
    n_ctx = int(changes["n_ctx"].value)
    assert make(msgspec.structs.replace(wanted, n_gpu_layers=layers)).fits
    assert not make(msgspec.structs.replace(wanted, n_gpu_layers=layers + 1)).fits
    assert make(msgspec.structs.replace(wanted, n_ctx=n_ctx)).fits
    assert not make(msgspec.structs.replace(wanted, n_ctx=n_ctx + 256)).fits
    assert "bits per weight" in changes["model"].text


def test_fit_leaves_its_margin(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=2000)
    for margin in ("512MiB", "1GiB"):
        found = make(profile(model, n_gpu_layers="fit", fit_margin=margin))
        cuda = found.devices[1]
        assert found.fits and found.placed is not None and cuda.free_bytes is not None
        left = cuda.free_bytes - cuda.needed_bytes
        size = {"512MiB": 512, "1GiB": 1024}[margin] * MIB
        assert size <= left < size + 60 * MIB
        assert found.placed.n_gpu_layers == found.offloaded_layers


def test_the_drivers_share_is_neither_lost_nor_counted_twice(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=3000)
    before = make(profile(model)).devices[1]
    learn_driver("CUDA0", 400 * MIB)
    after = make(profile(model)).devices[1]
    assert after.driver_bytes == 400 * MIB and before.free_bytes is not None and after.free_bytes is not None
    assert after.free_bytes - after.needed_bytes == before.free_bytes - before.needed_bytes


def test_a_fit_that_was_shown_is_the_one_that_is_loaded(box: Callable[..., Box], model: Path) -> None:
    machine = box(CUDA0=2000)
    planner = Planner(lambda: False)
    wanted = profile(model, n_gpu_layers="fit")
    shown = planner.plan(wanted, None).placed
    file = planning.open_model_file(model)
    machine.free["CUDA0"] += 200 * MIB
    assert planner.place(file, wanted, {}).profile == shown
    machine.free["CUDA0"] -= 600 * MIB
    less = planner.place(file, wanted, {}).profile
    assert shown is not None and less.n_gpu_layers < shown.n_gpu_layers  # type: ignore[operator]


def test_a_model_in_force_makes_room(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=500)
    planner = Planner(lambda: False)
    file = planning.open_model_file(model)
    wanted = profile(model, n_gpu_layers="fit", fit_margin="256MiB")
    alone = planner.place(file, wanted, {}).profile.n_gpu_layers
    with_room = Planner(lambda: False).place(file, wanted, {"CUDA0": 1000 * MIB}).profile.n_gpu_layers
    assert isinstance(alone, int) and isinstance(with_room, int) and with_room > alone + 10


def test_memory_that_another_process_took_since_the_plan(box: Callable[..., Box], model: Path) -> None:
    machine = box(CUDA0=3000)
    planner = Planner(lambda: False)
    wanted = profile(model)
    assert planner.plan(wanted, None).fits
    file = planning.open_model_file(model)
    planner.check_devices(file, planner.sizes(file, wanted), {})
    machine.free["CUDA0"] = 1000 * MIB
    with pytest.raises(Failed) as caught:
        planner.check_devices(file, planner.sizes(file, wanted), {"CUDA0": 100 * MIB})
    assert "does not fit on CUDA0" in caught.value.failure.what and "1.1 GiB are free, with" in caught.value.failure.why
    planner.check_devices(file, planner.sizes(file, wanted), {"CUDA0": 2000 * MIB})


def test_a_split_of_the_wrong_length(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=4000, CUDA1=4000)
    assert make(profile(model, tensor_split=(1.0, 2.0))).fits
    for split in ((1.0,), (1.0, 1.0, 1.0)):
        with pytest.raises(Failed) as caught:
            make(profile(model, tensor_split=split))
        assert f"It has {len(split)} shares; this machine has 2 GPUs: CUDA0, CUDA1." == caught.value.failure.why


def test_a_gpu_that_is_not_there(box: Callable[..., Box], model: Path) -> None:
    box(CUDA0=4000, CUDA1=4000)
    with pytest.raises(Failed) as caught:
        make(profile(model, split_mode="none", main_gpu=2))
    assert "no GPU number 2" in caught.value.failure.what
    assert any("main_gpu = 2 has no effect" in note for note in make(profile(model, main_gpu=2)).notes)


def test_a_device_that_does_not_say_what_is_free(box: Callable[..., Box], model: Path) -> None:
    box(Vulkan0=0)
    found = make(profile(model, tensor_split=(1.0,)))
    assert found.devices[1].free_bytes is None and found.fits
    assert any("does not say" in note for note in found.notes)


def test_the_fake_places_as_llama_cpp_does_without_devices(box: Callable[..., Box], model: Path) -> None:
    library.start()
    box()
    wanted = profile(model)
    file = planning.open_model_file(model)
    assert placed(file, wanted, {}).ram.weights == pytest.approx(plan.measure(file, wanted).ram.weights, rel=0.001)

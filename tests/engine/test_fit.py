"""The search for the largest placement, on machines that are made up: devices, and what each placement takes there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewise.engine.failures import Cancelled
from pagewise.engine.fit import Fitted, fit
from pagewise.models.gguf import Tensor
from pagewise.models.offload import RAM, LayerBytes, layer_bytes, layer_homes, weights_by_home
from pagewise.models.quant import TENSOR_TYPES
from pagewise.settings import Profile

F16 = TENSOR_TYPES[1]
MIB = 1024 * 1024


class Machine:
    """Places tensors as llama.cpp does. KV cache goes with its layer, a compute buffer with each device in use."""

    def __init__(self, tensors: Sequence[Tensor], n_layer: int, devices: Mapping[str, int], kv: int, compute: int):
        self.tensors, self.n_layer, self.devices = tensors, n_layer, dict(devices)
        self.kv, self.compute = kv, compute
        self.measured: list[Profile] = []

    def measure(self, profile: Profile) -> dict[str, int]:
        self.measured.append(profile)
        names = list(self.devices)
        layers = self.n_layer + 1 if profile.n_gpu_layers == "all" else profile.n_gpu_layers
        assert isinstance(layers, int), "fit has been turned into figures"
        shares = profile.tensor_split or tuple(map(float, self.devices.values()))
        if profile.split_mode == "none":
            shares = tuple(float(index == profile.main_gpu) for index in range(len(names)))
        homes = layer_homes(self.n_layer, layers, shares)
        overrides = [(re.compile(text.rpartition("=")[0]), RAM) for text in profile.tensor_overrides]
        weights = weights_by_home(self.tensors, self.n_layer, homes, overrides)
        return {
            name: weights.get(index, 0) + self.kv * homes[: self.n_layer].count(index) + self.compute
            for index, name in enumerate(names)
        }

    def fit(self, profile: Profile) -> Fitted:
        layers = tuple(
            layer._replace(bytes=layer.bytes + (self.kv if layer.number < self.n_layer else 0))
            for layer in layer_bytes(self.tensors, self.n_layer)
        )
        return fit(profile, layers, self.devices, self.measure)

    def leaves(self, profile: Profile) -> bool:
        taken = self.measure(profile)
        return all(taken[name] <= room for name, room in self.devices.items())


def tensors(n_layer: int, layer: int, experts: int = 0, output: int = 0) -> list[Tensor]:
    def one(name: str, size: int) -> Tensor:
        return Tensor(name, F16, (size // 2,), 0, size)

    found = [one("token_embd.weight", output or layer), one("output.weight", output or layer)]
    for index in range(n_layer):
        found.append(one(f"blk.{index}.attn_q.weight", layer))
        if experts:
            found += [one(f"blk.{index}.ffn_{part}_exps.weight", experts // 3) for part in ("up", "gate", "down")]
    return found


FIT = Profile(name="p", n_gpu_layers="fit")


def test_all_where_all_fits() -> None:
    machine = Machine(tensors(32, 100 * MIB), 32, {"CUDA0": 4000 * MIB}, 4 * MIB, 300 * MIB)
    found = machine.fit(FIT)
    assert found.fits and found.profile.n_gpu_layers == "all" and "all layers" in found.note
    assert len(machine.measured) == 1


@pytest.mark.parametrize(("room", "layers"), [(3000, 26), (1000, 6), (404, 1), (400, 1), (399, 0), (300, 0)])
def test_as_many_as_fit(room: int, layers: int) -> None:
    machine = Machine(tensors(32, 100 * MIB), 32, {"CUDA0": room * MIB}, 4 * MIB, 300 * MIB)
    found = machine.fit(FIT)
    assert (found.fits, found.profile.n_gpu_layers) == (True, layers)
    assert len(machine.measured) < 8
    assert ("no layer fits" if not layers else f"{layers} of 33 layers") in found.note


def test_not_even_none_fits() -> None:
    found = Machine(tensors(32, 100 * MIB), 32, {"CUDA0": 299 * MIB}, 4 * MIB, 300 * MIB).fit(FIT)
    assert not found.fits and found.profile.n_gpu_layers == 0 and "not even" in found.note


def test_no_device() -> None:
    found = Machine(tensors(4, MIB), 4, {}, 0, 0).fit(FIT)
    assert found.fits and found.profile.n_gpu_layers == 0 and "no GPU" in found.note


@pytest.mark.parametrize("in_ram", [0, 1, 2, 20, 47, 48])
def test_a_mixtures_experts_go_first(in_ram: int) -> None:
    room = (200 + 48 * 12 + 10 + (48 - in_ram) * 510) * MIB
    machine = Machine(tensors(48, 10 * MIB, experts=510 * MIB), 48, {"CUDA0": room}, 2 * MIB, 200 * MIB)
    found = machine.fit(FIT)
    assert found.profile.n_gpu_layers == "all" and machine.leaves(found.profile)
    patterns = [re.compile(text.rpartition("=")[0]) for text in found.profile.tensor_overrides]
    moved = {tensor.name for tensor in machine.tensors if any(entry.search(tensor.name) for entry in patterns)}
    assert moved == {
        f"blk.{layer}.ffn_{part}_exps.weight" for layer in range(in_ram) for part in ("up", "gate", "down")
    }


def test_a_mixture_that_does_not_fit_without_its_experts() -> None:
    machine = Machine(tensors(48, 100 * MIB, experts=510 * MIB), 48, {"CUDA0": 2000 * MIB}, 0, 200 * MIB)
    found = machine.fit(FIT)
    assert found.profile.n_gpu_layers == 18 and "experts of 48 of 48" in found.note


def test_two_devices_are_both_filled() -> None:
    machine = Machine(tensors(60, 100 * MIB), 60, {"CUDA0": 4000 * MIB, "CUDA1": 1500 * MIB}, 10 * MIB, 300 * MIB)
    found = machine.fit(FIT)
    # (4000 - 300) / 110; and (1500 - 300 - 100) / 110 beside the output, which has no KV cache.
    assert found.profile.n_gpu_layers == 33 + 11 and found.profile.tensor_split == (33.0, 11.0)
    assert machine.leaves(found.profile)


def test_two_devices_and_a_mixture() -> None:
    machine = Machine(
        tensors(48, 10 * MIB, experts=510 * MIB), 48, {"CUDA0": 8000 * MIB, "CUDA1": 8000 * MIB}, 2 * MIB, 200 * MIB
    )
    found = machine.fit(FIT)
    assert machine.leaves(found.profile) and found.profile.n_gpu_layers == "all"
    assert len(machine.measured) < 60
    held = sum(machine.measure(found.profile).values())
    # Of 16 000 MiB no more is left than one layer's experts on each device.
    assert held > (16_000 - 2 * 530) * MIB


def test_a_device_that_is_too_small_for_anything() -> None:
    machine = Machine(tensors(20, 100 * MIB), 20, {"CUDA0": 1500 * MIB, "CUDA1": 310 * MIB}, 0, 300 * MIB)
    found = machine.fit(FIT)
    assert found.profile.n_gpu_layers == 12 and found.profile.tensor_split == (12.0, 0.0)


def test_what_the_profile_fixes_stays() -> None:
    split = Profile(name="p", n_gpu_layers="fit", tensor_split=(1.0, 1.0))
    machine = Machine(tensors(60, 100 * MIB), 60, {"CUDA0": 4000 * MIB, "CUDA1": 1500 * MIB}, 10 * MIB, 300 * MIB)
    found = machine.fit(split)
    assert (
        found.profile.tensor_split == (1.0, 1.0) and found.profile.n_gpu_layers == 23 and machine.leaves(found.profile)
    )

    own = Profile(name="p", n_gpu_layers="fit", tensor_overrides=("blk\\.[0-9]\\.=CPU",))
    machine = Machine(tensors(48, 10 * MIB, experts=510 * MIB), 48, {"CUDA0": 10_000 * MIB}, 2 * MIB, 200 * MIB)
    found = machine.fit(own)
    assert found.profile.tensor_overrides[0] == own.tensor_overrides[0] and machine.leaves(found.profile)
    assert machine.measure(found.profile)["CUDA0"] > 9_400 * MIB

    alone = Profile(name="p", n_gpu_layers="fit", split_mode="none", main_gpu=1)
    machine = Machine(tensors(60, 100 * MIB), 60, {"CUDA0": 400 * MIB, "CUDA1": 1500 * MIB}, 10 * MIB, 300 * MIB)
    found = machine.fit(alone)
    assert found.profile.n_gpu_layers == 11 and not found.profile.tensor_split


def test_it_can_be_interrupted() -> None:
    def measure(profile: Profile) -> dict[str, int]:
        raise Cancelled

    with pytest.raises(Cancelled):
        fit(FIT, (LayerBytes(0, 1, 0), LayerBytes(1, 1, 0)), {"CUDA0": 1}, measure)


@settings(max_examples=150, deadline=None)
@given(
    n_layer=st.integers(1, 40),
    layer=st.integers(1, 200),
    experts=st.integers(0, 300),
    rooms=st.lists(st.integers(0, 6000), min_size=1, max_size=3),
    kv=st.integers(0, 20),
    compute=st.integers(0, 200),
)
def test_what_is_found_fits_and_is_the_largest(
    n_layer: int, layer: int, experts: int, rooms: list[int], kv: int, compute: int
) -> None:
    devices = {f"CUDA{index}": room * MIB for index, room in enumerate(rooms)}
    machine = Machine(tensors(n_layer, layer * MIB, experts * 3 * MIB), n_layer, devices, kv * MIB, compute * MIB)
    found = machine.fit(FIT)
    if found.fits:
        assert machine.leaves(found.profile)
    else:
        assert any(compute * MIB > room for room in devices.values())
    if len(rooms) == 1 and not experts:
        most = max((n for n in range(n_layer + 2) if machine.leaves(_with(n))), default=0)
        assert found.profile.n_gpu_layers == ("all" if most == n_layer + 1 and found.fits else most)


def _with(n_gpu_layers: int) -> Profile:
    return Profile(name="p", n_gpu_layers=n_gpu_layers)

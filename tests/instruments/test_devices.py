"""Devices that several sources tell of are one; those that only the engine sees are added and say so."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.instruments.fake_nvml import GIB, FakeNvml

from pagewise.instruments.devices import with_ggml
from pagewise.instruments.nvidia import NvidiaInstrument
from pagewise.readings import DeviceMemory, Devices, GgmlDevice

ARC = GgmlDevice("Vulkan0", "Intel(R) Arc(TM) A770", "gpu", "0000:03:00.0", 16 * GIB, 10 * GIB, 5 * GIB)


def nvidia(*addresses: str) -> Devices:
    """NVIDIA devices at these addresses."""
    (device,) = NvidiaInstrument(FakeNvml()).sample(None).devices
    return Devices(tuple(replace(device, index=index, pci=address) for index, address in enumerate(addresses)))


def told(name: str, pci: str = "", description: str = "") -> GgmlDevice:
    return GgmlDevice(name, description, "gpu", pci, 8 * GIB, 4 * GIB, 3 * GIB)


def test_a_device_that_only_ggml_sees_shows_its_memory_and_why_not_more() -> None:
    found = with_ggml(Devices((), "There is no NVML."), (ARC,))
    (device,) = found.devices
    assert found.why_none is None
    assert (device.name, device.source, device.ggml) == ("Intel(R) Arc(TM) A770", "ggml", "Vulkan0")
    assert (device.total_bytes, device.used_bytes, device.ours_bytes) == (16 * GIB, 6 * GIB, 5 * GIB)
    assert device.ours_is_estimate and device.is_called("Vulkan0")
    unknown = {name for name in device.__struct_fields__ if getattr(device, name) is None}
    assert {entry.metric for entry in device.missing} == unknown and "power_w" in unknown


def test_a_device_that_tells_no_memory_has_none_and_not_zero() -> None:
    (device,) = with_ggml(Devices((), "none"), (replace(ARC, total_bytes=0, free_bytes=0),)).devices
    assert device.total_bytes is None and device.used_bytes is None


def test_nothing_told_changes_nothing() -> None:
    devices = Devices((), "There is no NVML.")
    assert with_ggml(devices, ()) == devices


def test_llama_cpp_may_count_devices_in_another_order_than_the_driver() -> None:
    devices = with_ggml(
        nvidia("0000:01:00.0", "0000:c1:00.0"), (told("CUDA0", "0000:c1:00.0"), told("CUDA1", "0000:01:00.0"))
    )
    assert [device.ggml for device in devices.devices] == ["CUDA1", "CUDA0"]
    assert devices.devices[1].is_called("CUDA0") and not devices.devices[0].is_called("CUDA0")


@pytest.mark.parametrize(
    "device", [told("CUDA0"), told("Vulkan0"), told("Vulkan7", description="NVIDIA GeForce RTX 4060[2J")]
)
def test_without_an_address_number_or_name_tell_which_it_is(device: GgmlDevice) -> None:
    (found,) = with_ggml(nvidia("0000:01:00.0"), (device,)).devices
    assert (found.source, found.ggml) == ("NVML", device.name)


def test_a_device_of_another_address_is_another_one() -> None:
    first, second = with_ggml(nvidia("0000:c1:00.0"), (told("CUDA0", "0000:c1:00.0"), ARC)).devices
    assert (first.source, first.ggml) == ("NVML", "CUDA0")
    assert (second.source, second.ggml, second.index) == ("ggml", "Vulkan0", 1)


@pytest.mark.parametrize(
    ("source", "name", "same"),
    [("NVML", "CUDA1", True), ("NVML", "CUDA0", False), ("NVML", "ROCm1", False), ("sysfs", "ROCm1", True)],
)
def test_a_device_is_known_by_kind_and_number_until_the_engine_has_told(source: str, name: str, same: bool) -> None:
    (device,) = nvidia("").devices
    assert replace(device, source=source, index=1).is_called(name) is same
    assert not DeviceMemory("x", 1, "gpu", 1, 1, 1, False, None, None, None, None, source).is_called("CPU")

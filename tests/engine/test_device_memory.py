"""ggml's own word on the memory of devices, from the real library: its CPU device stands in for one."""

from __future__ import annotations

import pytest

from pagewise.engine.llamacpp import device_memory, library
from pagewise.readings import BufferBytes

BUFFERS = (
    BufferBytes("CPU", "CPU_Mapped", "weights", 700),
    BufferBytes("CPU", "CPU", "kv", 300),
    BufferBytes("CUDA0", "CUDA0", "weights", 5000),
)


def test_what_ggml_says_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "_KINDS", {0: "igpu"})
    (device,) = device_memory.device_memory(BUFFERS)
    assert (device.name, device.kind, device.pci) == ("CPU", "igpu", "")
    assert device.description == library.devices()[0].description
    assert 0 < device.free_bytes <= device.total_bytes
    assert device.ours_bytes == 1000


def test_a_processor_is_no_accelerator_and_a_build_that_does_not_say_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {device.name for device in library.devices() if device.kind in ("gpu", "igpu")}
    assert {device.name for device in device_memory.device_memory(BUFFERS)} == names
    monkeypatch.setattr(library, "device_properties", None)
    monkeypatch.setattr(device_memory, "_KINDS", {0: "igpu"})
    assert device_memory.device_memory(BUFFERS) == ()

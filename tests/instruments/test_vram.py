"""NVIDIA devices through a scripted NVML: what is read, and what each refusal costs."""

from __future__ import annotations

import types

import pytest
from tests.instruments.fake_nvml import GIB, FakeNvml, Process

from pagewise.instruments import vram
from pagewise.instruments.vram import NoNvml, VramInstrument

METRICS = {
    "nvmlDeviceGetUtilizationRates": ("utilization_pct", "memory_busy_pct"),
    "nvmlDeviceGetPowerUsage": ("power_w",),
    "nvmlDeviceGetTemperature": ("temperature_c",),
    "nvmlDeviceGetMemoryInfo": ("total_bytes", "used_bytes"),
}


def test_a_device_that_tells_all() -> None:
    nvml = FakeNvml()
    nvml.processes = [Process(99, 2 * GIB), Process(4121, GIB)]
    (device,) = VramInstrument(nvml).sample(4121).devices
    assert (device.total_bytes, device.used_bytes) == (8 * GIB, 3 * GIB)
    assert (device.ours_bytes, device.ours_is_estimate) == (GIB, False)
    assert (device.utilization_pct, device.memory_busy_pct) == (87.0, 64.0)
    assert (device.power_w, device.temperature_c) == (98.5, 61.0)
    assert device.source == "NVML" and device.missing == ()


def test_a_name_never_carries_escape_sequences() -> None:
    (device,) = VramInstrument(FakeNvml()).sample(None).devices
    assert device.name == "NVIDIA GeForce RTX 4060[2J"


@pytest.mark.parametrize("call", METRICS)
@pytest.mark.parametrize("code", [3, 4, 13, 25])
def test_a_metric_that_is_not_there_is_switched_off_alone(call: str, code: int) -> None:
    nvml = FakeNvml()
    nvml.errors[call] = code
    instrument = VramInstrument(nvml)
    for _ in range(3):
        (device,) = instrument.sample(None).devices
    assert nvml.calls[call] == 1
    assert {entry.metric for entry in device.missing} == set(METRICS[call])
    for metric in METRICS[call]:
        assert getattr(device, metric) is None
    others = {metric for other, metrics in METRICS.items() if other != call for metric in metrics}
    assert all(getattr(device, metric) is not None for metric in others)


@pytest.mark.parametrize("code", [2, 6, 10, 14, 16, 19, 21, 27, 999])
def test_a_passing_refusal_is_asked_again(code: int) -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetPowerUsage"] = code
    instrument = VramInstrument(nvml)
    (device,) = instrument.sample(None).devices
    assert device.power_w is None
    assert [entry.metric for entry in device.missing] == ["power_w"] and device.missing[0].why
    del nvml.errors["nvmlDeviceGetPowerUsage"]
    (device,) = instrument.sample(None).devices
    assert device.power_w == 98.5 and device.missing == ()


def test_a_lost_device_is_left_alone_and_says_so() -> None:
    nvml = FakeNvml(2)
    instrument = VramInstrument(nvml)
    nvml.errors["nvmlDeviceGetMemoryInfo"] = 15
    first, _ = instrument.sample(7).devices
    assert first.total_bytes is None and first.ours_bytes is None and first.utilization_pct is None
    assert {"total_bytes", "power_w", "ours_bytes"} <= {entry.metric for entry in first.missing}
    assert "restarted" in first.missing[0].why
    calls = dict(nvml.calls)
    instrument.sample(7)
    assert nvml.calls == calls


def test_a_driver_that_went_away_is_asked_for_again() -> None:
    nvml = FakeNvml()
    instrument = VramInstrument(nvml)
    nvml.errors["nvmlDeviceGetUtilizationRates"] = 1
    instrument.sample(None)
    assert nvml.calls["nvmlInit"] == 1
    del nvml.errors["nvmlDeviceGetUtilizationRates"]
    (device,) = instrument.sample(None).devices
    assert device.utilization_pct == 87.0


def test_a_driver_that_does_not_come_back() -> None:
    nvml = FakeNvml()
    instrument = VramInstrument(nvml)
    nvml.errors = {"nvmlDeviceGetUtilizationRates": 1, "nvmlInit": 18}
    (device,) = instrument.sample(None).devices
    assert "different versions" in {entry.metric: entry.why for entry in device.missing}["power_w"]


@pytest.mark.parametrize(
    ("code", "word"), [(9, "modprobe"), (12, "no NVIDIA driver"), (18, "restart"), (999, "nvidia-smi"), (17, "17")]
)
def test_no_nvml_says_why(code: int, word: str) -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlInit"] = code
    with pytest.raises(NoNvml, match=word):
        vram.initialize(nvml)


def test_no_nvml_gives_no_devices_but_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise NoNvml("There is none.")

    monkeypatch.setattr(vram, "open_nvml", refused)
    assert VramInstrument().sample(1).why_none == "There is none."


def test_nvml_without_a_device() -> None:
    devices = VramInstrument(FakeNvml(0)).sample(None)
    assert devices.devices == () and devices.why_none is not None and "no NVIDIA device" in devices.why_none


def test_the_old_package_is_recognized() -> None:
    import pynvml

    old = types.ModuleType("pynvml")
    old.__file__ = "/site-packages/pynvml/__init__.py"
    assert vram.is_shadowed(old)
    assert not vram.is_shadowed(pynvml)


def test_our_share_in_a_container_is_the_growth_and_marked_so() -> None:
    nvml = FakeNvml()
    instrument = VramInstrument(nvml)
    instrument.mark_baseline()
    nvml.used += GIB
    nvml.processes = [Process(70_000, GIB)]
    (device,) = instrument.sample(12, on_device=True).devices
    assert (device.ours_bytes, device.ours_is_estimate) == (GIB, True)


def test_an_engine_without_weights_there_has_no_share() -> None:
    nvml = FakeNvml()
    instrument = VramInstrument(nvml)
    instrument.mark_baseline()
    nvml.used += GIB
    (device,) = instrument.sample(12, on_device=False).devices
    assert (device.ours_bytes, device.ours_is_estimate) == (0, False)


def test_a_share_that_the_driver_withholds_is_estimated() -> None:
    nvml = FakeNvml()
    nvml.processes = [Process(12, None)]
    instrument = VramInstrument(nvml)
    (device,) = instrument.sample(12, on_device=True).devices
    assert device.ours_bytes is None
    assert [entry.metric for entry in device.missing] == ["ours_bytes"]
    instrument.mark_baseline()
    nvml.used += 512
    (device,) = instrument.sample(12, on_device=True).devices
    assert (device.ours_bytes, device.ours_is_estimate) == (512, True)


def test_an_old_driver_lists_processes_the_old_way() -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetComputeRunningProcesses_v3"] = 13
    nvml.processes = [Process(12, GIB)]
    (device,) = VramInstrument(nvml).sample(12).devices
    assert device.ours_bytes == GIB


def test_peak_bandwidth_of_the_device() -> None:
    nvml = FakeNvml()
    instrument = VramInstrument(nvml)
    assert instrument.peak_bytes_per_s(0) == pytest.approx(1008e9, rel=1e-3)
    assert instrument.peak_bytes_per_s(1) is None
    nvml.errors["nvmlDeviceGetMemoryBusWidth"] = 3
    assert VramInstrument(nvml).peak_bytes_per_s(0) is None

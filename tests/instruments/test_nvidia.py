"""NVIDIA devices through a scripted NVML: what is read, and what each refusal costs."""

from __future__ import annotations

import threading
import time
import types
from pathlib import Path

import pytest
from tests.instruments.fake_nvml import GIB, FakeNvml, Process

from pagewise.instruments import nvidia
from pagewise.instruments.amdgpu import AmdInstrument
from pagewise.instruments.devices import DevicesInstrument
from pagewise.instruments.dram import SHORTEST_S
from pagewise.instruments.nvidia import NvidiaInstrument
from pagewise.instruments.nvml import NoNvml, initialize, is_shadowed
from pagewise.readings import DeviceMemory

METRICS = {
    "nvmlDeviceGetUtilizationRates": ("utilization_pct", "memory_busy_pct"),
    "nvmlDeviceGetPowerUsage": ("power_w",),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit_w",),
    "nvmlDeviceGetTotalEnergyConsumption": ("energy_j",),
    "nvmlDeviceGetTemperature": ("temperature_c",),
    "nvmlDeviceGetMemoryInfo": ("total_bytes", "used_bytes"),
    "nvmlDeviceGetClockInfo 1": ("sm_clock_mhz",),
    "nvmlDeviceGetMaxClockInfo 1": ("sm_clock_max_mhz",),
    "nvmlDeviceGetClockInfo 2": ("memory_clock_mhz",),
    "nvmlDeviceGetCurrentClocksEventReasons": ("held_back",),
    "nvmlGpmQueryDeviceSupport": ("dram_bytes_s",),
    "nvmlDeviceGetPcieThroughput": ("pcie_rx_bytes_s", "pcie_tx_bytes_s"),
    "nvmlDeviceGetCurrPcieLinkWidth": ("pcie_peak_bytes_s",),
}
ALL = {metric for metrics in METRICS.values() for metric in metrics}
EVERY_CODE = (2, 3, 4, 6, 8, 10, 11, 14, 16, 17, 19, 20, 21, 23, 25, 26, 27, 28, 29, 999, 4711)
"""All that NVML's header has for a question about a device, and one that it has not; 1, 13 and 15 have their own."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time between the samples of the performance monitor, without waiting for it."""
    time = Clock()
    monkeypatch.setattr("pagewise.instruments.dram.time", time)
    return time


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def settled(instrument: NvidiaInstrument, pid: int | None = None) -> DeviceMemory:
    """The first device, once the thread that measures PCIe has said what it has to say, good or bad."""
    until = time.monotonic() + 10.0
    while True:
        device = instrument.sample(pid).devices[0]
        waiting = {"it is being measured", "it takes two samples, and this is the first"}
        if not waiting & {entry.why for entry in device.missing}:
            return device
        assert time.monotonic() < until, device.missing
        threading.Event().wait(0.005)


def test_a_device_that_tells_all() -> None:
    nvml = FakeNvml()
    nvml.processes = [Process(99, 2 * GIB), Process(4121, GIB)]
    device = settled(NvidiaInstrument(nvml), 4121)
    assert (device.total_bytes, device.used_bytes) == (8 * GIB, 3 * GIB)
    assert (device.ours_bytes, device.ours_is_estimate) == (GIB, False)
    assert (device.utilization_pct, device.memory_busy_pct) == (87.0, 64.0)
    assert (device.power_w, device.power_limit_w, device.temperature_c) == (98.5, 115.0, 61.0)
    assert device.energy_j == 5000.0
    assert (device.sm_clock_mhz, device.sm_clock_max_mhz, device.memory_clock_mhz) == (1410.0, 2460.0, 9501.0)
    assert device.held_back == ()
    assert device.dram_peak_bytes_s == pytest.approx(1008e9, rel=1e-3)
    assert device.dram_bytes_s == pytest.approx(0.63 * 1008e9, rel=1e-3)
    assert (device.pcie_rx_bytes_s, device.pcie_tx_bytes_s) == (1.23e9, 81e6)
    assert device.pcie_peak_bytes_s == pytest.approx(31.5e9, rel=1e-2)
    assert device.pci == "0000:c1:00.0"
    assert device.source == "NVML" and device.missing == ()


def test_a_name_never_carries_escape_sequences() -> None:
    (device,) = NvidiaInstrument(FakeNvml()).sample(None).devices
    assert device.name == "NVIDIA GeForce RTX 4060[2J"


@pytest.mark.parametrize("call", METRICS)
@pytest.mark.parametrize("code", [3, 4, 25, 26])
def test_a_metric_that_is_not_there_is_switched_off_alone(call: str, code: int) -> None:
    nvml = FakeNvml()
    nvml.errors[call] = code
    instrument = NvidiaInstrument(nvml)
    device = settled(instrument)
    asked = nvml.calls[call]
    device = settled(instrument)
    assert nvml.calls[call] == asked
    assert {entry.metric for entry in device.missing} == set(METRICS[call])
    for metric in METRICS[call]:
        assert getattr(device, metric) is None
    assert all(getattr(device, metric) is not None for metric in ALL - set(METRICS[call]))


@pytest.mark.parametrize("code", EVERY_CODE)
def test_every_code_is_put_in_words_and_takes_no_other_metric_along(code: int) -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetPowerUsage"] = code
    (device,) = NvidiaInstrument(nvml).sample(None).devices
    reasons = {entry.metric: entry.why for entry in device.missing}
    assert device.power_w is None and len(reasons["power_w"]) > 20
    assert device.temperature_c == 61.0 and device.used_bytes == 3 * GIB


@pytest.mark.parametrize("code", [2, 6, 10, 14, 16, 19, 21, 27, 999])
def test_a_passing_refusal_is_asked_again(code: int) -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetPowerUsage"] = code
    instrument = NvidiaInstrument(nvml)
    device = settled(instrument)
    assert device.power_w is None
    assert [entry.metric for entry in device.missing] == ["power_w"] and device.missing[0].why
    del nvml.errors["nvmlDeviceGetPowerUsage"]
    device = settled(instrument)
    assert device.power_w == 98.5 and device.missing == ()


def test_a_lost_device_is_left_alone_and_says_so() -> None:
    nvml = FakeNvml(2)
    instrument = NvidiaInstrument(nvml)
    nvml.errors["nvmlDeviceGetMemoryInfo"] = 15
    first, _ = instrument.sample(7).devices
    assert first.total_bytes is None and first.ours_bytes is None and first.utilization_pct is None
    assert {"total_bytes", "power_w", "ours_bytes"} <= {entry.metric for entry in first.missing}
    assert "restarted" in first.missing[0].why
    calls = asked_by_readings(nvml)
    instrument.sample(7)
    assert asked_by_readings(nvml) == calls


def asked_by_readings(nvml: FakeNvml) -> dict[str, int]:
    """Without what the thread that measures PCIe asks by itself."""
    return {name: count for name, count in nvml.calls.items() if "Pcie" not in name and "Handle" not in name}


def test_every_metric_of_a_lost_device_says_the_same() -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
    assert settled(instrument).missing == ()
    nvml.errors = dict.fromkeys(nvml.calls, 15)
    (device,) = instrument.sample(7).devices
    assert {entry.metric for entry in device.missing} == ALL | {"dram_peak_bytes_s", "ours_bytes"}
    assert len({entry.why for entry in device.missing}) == 1
    assert instrument.energy_j(0) is None and instrument.used_bytes() is None and instrument.processes() == (None,)


def test_a_driver_that_went_away_is_asked_for_again() -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
    nvml.errors["nvmlDeviceGetUtilizationRates"] = 1
    instrument.sample(None)
    assert nvml.calls["nvmlInit"] == 1
    del nvml.errors["nvmlDeviceGetUtilizationRates"]
    (device,) = instrument.sample(None).devices
    assert device.utilization_pct == 87.0


def test_a_driver_that_does_not_come_back() -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
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
        initialize(nvml)


def test_no_nvml_gives_no_devices_but_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise NoNvml("There is none.")

    monkeypatch.setattr(nvidia, "open_nvml", refused)
    assert NvidiaInstrument().sample(1).why_none == "There is none."


def test_nvml_without_a_device() -> None:
    devices = NvidiaInstrument(FakeNvml(0)).sample(None)
    assert devices.devices == () and devices.why_none is not None and "no NVIDIA device" in devices.why_none


def test_the_old_package_is_recognized() -> None:
    import pynvml

    old = types.ModuleType("pynvml")
    old.__file__ = "/site-packages/pynvml/__init__.py"
    assert is_shadowed(old)
    assert not is_shadowed(pynvml)


def test_our_share_in_a_container_is_the_growth_and_marked_so() -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
    instrument.mark_baseline()
    nvml.used += GIB
    nvml.processes = [Process(70_000, GIB)]
    (device,) = instrument.sample(12, on_device=True).devices
    assert (device.ours_bytes, device.ours_is_estimate) == (GIB, True)


def test_an_engine_without_weights_there_has_no_share() -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
    instrument.mark_baseline()
    nvml.used += GIB
    (device,) = instrument.sample(12, on_device=False).devices
    assert (device.ours_bytes, device.ours_is_estimate) == (0, False)


def test_a_share_that_the_driver_withholds_is_estimated() -> None:
    nvml = FakeNvml()
    nvml.processes = [Process(12, None)]
    instrument = NvidiaInstrument(nvml)
    (device,) = instrument.sample(12, on_device=True).devices
    assert device.ours_bytes is None
    assert "ours_bytes" in {entry.metric for entry in device.missing}
    instrument.mark_baseline()
    nvml.used += 512
    (device,) = instrument.sample(12, on_device=True).devices
    assert (device.ours_bytes, device.ours_is_estimate) == (512, True)


def test_an_old_driver_lists_processes_the_old_way() -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetComputeRunningProcesses_v3"] = 13
    nvml.processes = [Process(12, GIB)]
    (device,) = NvidiaInstrument(nvml).sample(12).devices
    assert device.ours_bytes == GIB


def test_peak_bandwidth_needs_clock_and_width() -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetMemoryBusWidth"] = 3
    (device,) = NvidiaInstrument(nvml).sample(None).devices
    assert device.dram_peak_bytes_s is None and device.dram_bytes_s is None
    reasons = {entry.metric: entry.why for entry in device.missing}
    assert {"dram_peak_bytes_s", "dram_bytes_s"} <= set(reasons)


def test_samples_that_are_too_close_are_not_compared(clock: Clock) -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
    instrument.sample(None)
    taken = instrument.sample(None).devices[0].dram_bytes_s
    nvml.dram_pct = 20.0
    clock.now += SHORTEST_S / 2 - 1.0
    assert instrument.sample(None).devices[0].dram_bytes_s == taken
    assert instrument.sample(None).devices[0].dram_bytes_s == pytest.approx(0.2 * 1008e9, rel=1e-3)


@pytest.mark.parametrize(("code", "pct"), [(21, 50.0), (0, float("nan"))])
def test_a_bandwidth_that_the_monitor_cannot_make_is_not_zero(code: int, pct: float) -> None:
    nvml = FakeNvml()
    nvml.dram_code, nvml.dram_pct = code, pct
    device = settled(NvidiaInstrument(nvml))
    assert device.dram_bytes_s is None and [entry.metric for entry in device.missing] == ["dram_bytes_s"]


def test_before_hopper_there_is_no_bandwidth_and_the_rest_is_there() -> None:
    nvml = FakeNvml()
    nvml.has_gpm = False
    instrument = NvidiaInstrument(nvml)
    settled(instrument)
    device = settled(instrument)
    assert nvml.calls["nvmlGpmQueryDeviceSupport"] == 1
    assert [(entry.metric, "Hopper" in entry.why) for entry in device.missing] == [("dram_bytes_s", True)]
    assert device.memory_busy_pct == 64.0


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x5, ("power limit",)),
        (0x28, ("hardware slowdown (heat or power)", "heat")),
        (0x48, ("heat (the hardware's own limit)",)),
        (0x1000, ("a reason that is not known here (0x1000)",)),
    ],
)
def test_why_clocks_are_held_back(bits: int, words: tuple[str, ...]) -> None:
    nvml = FakeNvml()
    nvml.reasons = bits
    assert NvidiaInstrument(nvml).sample(None).devices[0].held_back == words


def test_an_older_driver_knows_the_reasons_by_their_former_name() -> None:
    nvml = FakeNvml()
    nvml.reasons = 0x4
    nvml.errors["nvmlDeviceGetCurrentClocksEventReasons"] = 13
    assert NvidiaInstrument(nvml).sample(None).devices[0].held_back == ("power limit",)


def test_a_link_of_a_generation_to_come_has_no_peak_that_is_made_up() -> None:
    nvml = FakeNvml()
    nvml.generation = 9
    device = settled(NvidiaInstrument(nvml))
    assert device.pcie_peak_bytes_s is None and device.pcie_rx_bytes_s == 1.23e9
    assert "generation 9" in device.missing[0].why


def test_a_call_for_pcie_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    go_on, asked = threading.Event(), threading.Event()

    def hangs(handle: str, direction: int) -> int:
        asked.set()
        assert go_on.wait(30.0)
        return 1

    monkeypatch.setattr(nvml, "nvmlDeviceGetPcieThroughput", hangs)
    instrument = NvidiaInstrument(nvml)
    (device,) = instrument.sample(None).devices
    assert asked.wait(10.0)
    assert device.power_w == 98.5 and device.pcie_rx_bytes_s is None
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "pcie")
    later = time.monotonic() + 7.0
    monkeypatch.setattr("pagewise.instruments.pcie.time", types.SimpleNamespace(monotonic=lambda: later))
    (device,) = instrument.sample(None).devices
    assert "has not answered for 7 s" in {entry.metric: entry.why for entry in device.missing}["pcie_rx_bytes_s"]
    go_on.set()


def test_nobody_asks_for_pcie_while_nobody_reads() -> None:
    nvml = FakeNvml()
    instrument = NvidiaInstrument(nvml)
    assert "nvmlDeviceGetPcieThroughput" not in nvml.calls
    settled(instrument)
    asked = nvml.calls["nvmlDeviceGetPcieThroughput"]
    assert 2 <= asked <= 4


def test_processes_of_all_kinds_are_listed_once() -> None:
    nvml = FakeNvml(2)
    nvml.processes = [Process(12, GIB), Process(13, None)]
    nvml.graphics = [Process(12, GIB), Process(7, GIB // 8)]
    first, _ = NvidiaInstrument(nvml).processes()
    assert first == ((12, GIB, True), (13, None, True), (7, GIB // 8, False))
    shares = DevicesInstrument(NvidiaInstrument(nvml), AmdInstrument(Path("/none"), Path("/none"))).shares()
    assert shares.bytes == {12: 2 * GIB, 13: None, 7: GIB // 4} and shares.computing == {12, 13} and shares.told


def test_parts_of_a_divided_device_are_devices_of_their_own() -> None:
    nvml = FakeNvml()
    nvml.parts = {0: 3, 2: 5}
    nvml.processes = [Process(12, GIB, 3), Process(13, 2 * GIB, 5)]
    ask = nvml.nvmlDeviceGetComputeRunningProcesses_v3

    def of_the_whole_alone(handle: str) -> list[Process]:
        if "part" in handle:
            raise nvml.NVMLError(3)
        return ask(handle)

    nvml.nvmlDeviceGetComputeRunningProcesses_v3 = of_the_whole_alone  # type: ignore[method-assign]
    nvml.errors["nvmlDeviceGetComputeRunningProcesses_v2"] = 13
    instrument = NvidiaInstrument(nvml)
    first, second = instrument.sample(13).devices
    assert (first.index, second.index) == (0, 1)
    assert first.total_bytes == 8 * GIB and first.temperature_c == 61.0 and first.sm_clock_mhz == 1410.0
    assert (first.ours_bytes, second.ours_bytes) == (0, 2 * GIB)
    missing = {entry.metric: entry.why for entry in first.missing}
    for metric in ("power_w", "energy_j", "dram_bytes_s", "pcie_rx_bytes_s", "pcie_peak_bytes_s"):
        assert getattr(first, metric) is None and "MIG" in missing[metric]
    assert not any("Gpm" in name or "PcieThroughput" in name for name in nvml.calls)


def test_a_divided_device_without_parts_is_one_device() -> None:
    nvml = FakeNvml()
    nvml.parts = {9: 1}
    assert len(NvidiaInstrument(nvml).sample(None).devices) == 1

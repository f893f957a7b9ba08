"""AMD devices from a tree like the one that the amdgpu driver shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.instruments.fake_nvml import FakeNvml

from pagewise.instruments.amdgpu import AmdInstrument, parse_fdinfo, vram_bytes
from pagewise.instruments.devices import DevicesInstrument
from pagewise.instruments.nvidia import NvidiaInstrument

FDINFO = """pos:	0
flags:	02100002
drm-driver:	amdgpu
drm-client-id:	17
drm-pdev:	0000:03:00.0
drm-memory-vram:	2048 KiB
drm-resident-vram:	3 MiB
"""


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """(sys, proc) of a machine with one AMD device, its connector, and a device of another maker."""
    pci = tmp_path / "sys" / "devices" / "0000:03:00.0"
    monitor = pci / "hwmon" / "hwmon4"
    monitor.mkdir(parents=True)
    for name, text in {
        "vendor": "0x1002",
        "mem_info_vram_total": "17163091968",
        "mem_info_vram_used": "1073741824",
        "gpu_busy_percent": "42",
        "product_name": "Radeon RX 7800 XT",
    }.items():
        (pci / name).write_text(f"{text}\n")
    (monitor / "power1_average").write_text("51000000\n")
    (monitor / "temp1_input").write_text("47000\n")
    (monitor / "power1_cap").write_text("263000000\n")
    (monitor / "freq1_input").write_text("2124000000\n")
    drm = tmp_path / "sys" / "class" / "drm"
    (drm / "card1").mkdir(parents=True)
    (drm / "card1" / "device").symlink_to(pci)
    (drm / "card1-DP-1").mkdir()
    other = tmp_path / "sys" / "devices" / "0000:00:02.0"
    other.mkdir()
    (other / "vendor").write_text("0x8086\n")
    (drm / "card0").mkdir()
    (drm / "card0" / "device").symlink_to(other)
    descriptors = tmp_path / "proc" / "12" / "fdinfo"
    descriptors.mkdir(parents=True)
    (descriptors / "3").write_text(FDINFO)
    (descriptors / "4").write_text(FDINFO)
    (descriptors / "5").write_text(FDINFO.replace("17", "18").replace("3 MiB", "1 MiB"))
    (descriptors / "6").write_text(FDINFO.replace("0000:03:00.0", "0000:04:00.0"))
    return tmp_path / "sys", tmp_path / "proc"


def test_a_device(trees: tuple[Path, Path]) -> None:
    (device,) = AmdInstrument(*trees).sample(12)
    assert device.name == "Radeon RX 7800 XT"
    assert (device.total_bytes, device.used_bytes) == (17163091968, 1073741824)
    assert device.ours_bytes == 4 << 20
    assert (device.utilization_pct, device.power_w, device.temperature_c) == (42, 51.0, 47.0)
    assert device.memory_busy_pct is None
    assert (device.power_limit_w, device.sm_clock_mhz, device.pci) == (263.0, 2124.0, "0000:03:00.0")
    unknown = {name for name in device.__struct_fields__ if getattr(device, name) is None}
    assert {"memory_busy_pct", "dram_bytes_s", "memory_clock_mhz"} <= unknown
    assert {entry.metric for entry in device.missing} == unknown


def test_without_an_engine_and_with_one_that_cannot_be_seen(trees: tuple[Path, Path]) -> None:
    instrument = AmdInstrument(*trees)
    assert instrument.sample(None)[0].ours_bytes == 0
    assert instrument.sample(99)[0].ours_bytes is None
    assert (instrument.bytes_of(12), instrument.bytes_of(99)) == (4 << 20, None)
    assert instrument.used_bytes() == 1073741824


def test_devices_of_both_makers_are_shown_together(trees: tuple[Path, Path]) -> None:
    devices = DevicesInstrument(NvidiaInstrument(FakeNvml()), AmdInstrument(*trees)).sample(None)
    assert [device.source for device in devices.devices] == ["NVML", "sysfs"]
    assert devices.why_none is None


def test_no_device_at_all_says_why(tmp_path: Path) -> None:
    devices = DevicesInstrument(NvidiaInstrument(FakeNvml(0)), AmdInstrument(tmp_path, tmp_path)).sample(None)
    assert devices.devices == () and devices.why_none


def test_fdinfo() -> None:
    assert vram_bytes(parse_fdinfo(FDINFO)) == 3 << 20
    assert vram_bytes(parse_fdinfo("drm-memory-vram:\t7 parsecs\n")) == 0
    assert vram_bytes({}) == 0

"""All accelerators of the box, whoever made them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from pagewise.instruments.amdgpu import AmdInstrument
from pagewise.instruments.nvidia import NvidiaInstrument
from pagewise.readings import DeviceMemory, Devices, GgmlDevice, Missing

_MEMORY_ALONE = "ggml tells the memory of a device and nothing else; there is no NVML and no sysfs for this one"
_TOLD_BY_GGML = frozenset({"total_bytes", "used_bytes", "ours_bytes"})


class Shares(NamedTuple):
    """What processes have on all devices together, as far as their drivers list them."""

    bytes: dict[int, int | None]
    """By process; None: it is there, and the driver does not tell with how much."""
    computing: frozenset[int]
    """Those that do more than draw on a screen."""
    told: bool
    """False: a driver lists no processes."""


class DevicesInstrument:
    """Readings of NVIDIA devices through NVML and of AMD devices through ``/sys``."""

    def __init__(self, nvidia: NvidiaInstrument | None = None, amd: AmdInstrument | None = None) -> None:
        self._nvidia = nvidia or NvidiaInstrument()
        self._amd = amd or AmdInstrument()

    def mark_baseline(self) -> None:
        """Remember what is used before an engine's backend is up."""
        self._nvidia.mark_baseline()

    def used_bytes(self) -> int | None:
        """What all devices together hold; None without devices, or where they do not tell."""
        held = [used for used in (self._nvidia.used_bytes(), self._amd.used_bytes()) if used is not None]
        return sum(held) if held else None

    def energy_j(self, device: DeviceMemory) -> float | None:
        """The energy counter of a device that was sampled before; None where it has none."""
        return self._nvidia.energy_j(device.index) if device.source == "NVML" else None

    def shares(self) -> Shares:
        """Who has memory on devices whose drivers list processes."""
        lists = self._nvidia.processes()
        found: dict[int, int | None] = {}
        computing: set[int] = set()
        for process in (process for listed in lists for process in listed or ()):
            former = found.get(process.pid, 0)
            found[process.pid] = None if former is None or process.bytes is None else former + process.bytes
            if process.computes:
                computing.add(process.pid)
        return Shares(found, frozenset(computing), None not in lists)

    def bytes_of(self, pid: int, shares: Shares) -> int | None:
        """What one process has on all devices; None where that is not told."""
        listed = shares.bytes.get(pid, 0) if shares.told else None
        amd = self._amd.bytes_of(pid)
        return None if listed is None or amd is None else listed + amd

    def sample(self, pid: int | None, on_device: bool = False) -> Devices:
        """All devices now; ``on_device``: the engine is known to have weights on one."""
        nvidia = self._nvidia.sample(pid, on_device)
        amd = self._amd.sample(pid)
        if nvidia.devices or amd:
            return Devices((*nvidia.devices, *amd))
        if platform.system() == "Darwin":
            return Devices((), "The GPU of this machine uses the machine's RAM: see RAM.")
        return nvidia


def with_ggml(devices: Devices, told: Sequence[GgmlDevice]) -> Devices:
    """``devices`` with llama.cpp's names, and those that the engine alone can see behind them."""
    named = list(devices.devices)
    added: list[DeviceMemory] = []
    taken: set[int] = set()
    for device in told:
        place = _same(named, device, taken)
        if place is None:
            added.append(_by_ggml(device, len(named) + len(added)))
        else:
            taken.add(place)
            named[place] = replace(named[place], ggml=device.name)
    return Devices((*named, *added), None if named or added else devices.why_none)


def _same(devices: Sequence[DeviceMemory], told: GgmlDevice, taken: set[int]) -> int | None:
    """Which of the devices this one is: by its address, else by its number among those of its maker, else by name."""
    free = [(place, device) for place, device in enumerate(devices) if place not in taken]
    if told.pci:
        by_address = [place for place, device in free if device.pci == told.pci]
        if by_address or all(device.pci for _, device in free):
            return next(iter(by_address), None)
    by_number = [place for place, device in free if device.is_called(told.name)]
    by_name = [place for place, device in free if device.name == told.description]
    return next(iter((*by_number, *by_name)), None)


def _by_ggml(device: GgmlDevice, index: int) -> DeviceMemory:
    reading = DeviceMemory(
        name=device.description or device.name,
        index=index,
        kind=device.kind,
        total_bytes=device.total_bytes or None,
        used_bytes=device.total_bytes - device.free_bytes if device.total_bytes else None,
        ours_bytes=device.ours_bytes,
        ours_is_estimate=True,
        utilization_pct=None,
        memory_busy_pct=None,
        power_w=None,
        temperature_c=None,
        source="ggml",
        pci=device.pci,
        ggml=device.name,
    )
    unknown = [name for name in reading.__struct_fields__ if getattr(reading, name) is None]
    untold = "ggml does not tell this device's memory"
    missing = (Missing(name, untold if name in _TOLD_BY_GGML else _MEMORY_ALONE) for name in unknown)
    return replace(reading, missing=tuple(missing))

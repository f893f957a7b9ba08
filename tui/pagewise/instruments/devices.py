"""All accelerators of the box, whoever made them."""

from __future__ import annotations

import platform

from pagewise.instruments.amdgpu import AmdInstrument
from pagewise.instruments.vram import VramInstrument
from pagewise.readings import Devices


class DevicesInstrument:
    """Readings of NVIDIA devices through NVML and of AMD devices through ``/sys``."""

    def __init__(self, nvidia: VramInstrument | None = None, amd: AmdInstrument | None = None) -> None:
        self._nvidia = nvidia or VramInstrument()
        self._amd = amd or AmdInstrument()

    def mark_baseline(self) -> None:
        """Remember what is used before an engine's backend is up."""
        self._nvidia.mark_baseline()

    def used_bytes(self) -> int | None:
        """What all devices together hold; None without devices, or where they do not tell."""
        held = [device.used_bytes for device in self.sample(None).devices if device.used_bytes is not None]
        return sum(held) if held else None

    def peak_bytes_per_s(self, index: int) -> float | None:
        """Memory bandwidth that a device's own figures promise; None where it gives none."""
        return self._nvidia.peak_bytes_per_s(index)

    def sample(self, pid: int | None, on_device: bool = False) -> Devices:
        """All devices now; ``on_device``: the engine is known to have weights on one."""
        nvidia = self._nvidia.sample(pid, on_device)
        amd = self._amd.sample(pid)
        if nvidia.devices or amd:
            return Devices((*nvidia.devices, *amd))
        if platform.system() == "Darwin":
            return Devices((), "The GPU of this machine uses the machine's RAM: see RAM.")
        return nvidia

"""Devices and what lies on them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

DeviceKind = Literal["gpu", "igpu", "cpu", "accelerator"]
Where = Literal["mapped", "copied", "device", "unknown"]
"""Where a layer's weights are: pages of the file's mapping, private memory (repacked or read), or a device's memory."""


class Missing(Struct, frozen=True):
    """Why a metric has no value: ``metric`` is the field's name, ``why`` one plain sentence."""

    metric: str
    why: str


class BufferBytes(Struct, frozen=True):
    """Bytes that llama.cpp holds in one buffer type, by kind."""

    device: str
    """ggml's device name, such as ``CPU`` or ``CUDA0``."""
    buffer: str
    """ggml's buffer type name, such as ``CPU_Mapped``, ``CPU_REPACK``, ``CUDA0``."""
    kind: Literal["weights", "kv", "compute", "output"]
    bytes: int


class LayerPlacement(Struct, frozen=True):
    """Where one layer's weights were put by llama.cpp, read from its buffers and not from the request."""

    name: str
    """``input``, the layer's number, or ``output``."""
    device: str
    where: Where
    mapped_bytes: int
    copied_bytes: int
    device_bytes: int


class DeviceMemory(Struct, frozen=True):
    """One accelerator's memory in bytes, and what its driver says of its work."""

    name: str
    index: int
    kind: DeviceKind
    total_bytes: int | None
    used_bytes: int | None
    ours_bytes: int | None
    ours_is_estimate: bool
    utilization_pct: float | None
    memory_busy_pct: float | None
    power_w: float | None
    temperature_c: float | None
    source: str
    """``NVML``, ``sysfs``; ``ggml``: memory alone, told by the engine after each load and reply."""
    missing: tuple[Missing, ...] = ()
    power_limit_w: float | None = None
    energy_j: float | None = None
    """Since the driver was loaded."""
    sm_clock_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    memory_clock_mhz: float | None = None
    held_back: tuple[str, ...] | None = None
    """Why its clocks are lower than they could be; empty: nothing holds them back, or it is idle."""
    dram_bytes_s: float | None = None
    """Read and written by the device in its own memory, over the time since the former sample (GPM)."""
    dram_peak_bytes_s: float | None = None
    """What its memory can move at best: bus width × highest clock."""
    pcie_rx_bytes_s: float | None = None
    """To the device, over 20 ms."""
    pcie_tx_bytes_s: float | None = None
    """From the device, over 20 ms."""
    pcie_peak_bytes_s: float | None = None
    """What the link carries in one direction as it is now; an idle one may have been slowed down."""
    pci: str = ""
    """Its PCI address, such as ``0000:c1:00.0``; empty where it is not known, or it is a part of a divided device."""
    ggml: str = ""
    """What llama.cpp calls it, such as ``CUDA0``; empty where the engine has not told."""

    def is_called(self, name: str) -> bool:
        """Whether this is the device that llama.cpp calls ``name``: by the engine's word, else by kind and number."""
        if self.ggml:
            return self.ggml == name
        kinds = _GGML_KINDS.get(self.source, ())
        return any(name == f"{kind}{self.index}" for kind in kinds)


_GGML_KINDS = {"NVML": ("CUDA", "Vulkan"), "sysfs": ("ROCm", "HIP", "Vulkan")}


class GgmlDevice(Struct, frozen=True):
    """An accelerator as ggml sees it from inside the engine, in bytes."""

    name: str
    """Such as ``CUDA0``, ``Vulkan0``, ``MTL0``."""
    description: str
    kind: DeviceKind
    pci: str
    """Empty where ggml does not know it."""
    total_bytes: int
    free_bytes: int
    ours_bytes: int
    """Llama.cpp's own buffers there."""


class TurnEnergy(Struct, frozen=True):
    """What the devices that hold the model drew from a turn's first token to its end, whoever else used them."""

    joules: float
    seconds: float
    tokens: int
    """Output tokens in that time: all but the first."""
    source: Literal["energy counter", "power × time"]
    """``power × time`` is an estimate: the mean of the power that was read meanwhile."""

    @property
    def per_token_j(self) -> float:
        """Joules for one output token."""
        return self.joules / self.tokens


class Devices(Struct, frozen=True):
    """All accelerators, or the reason why there is none to show."""

    devices: tuple[DeviceMemory, ...]
    why_none: str | None = None

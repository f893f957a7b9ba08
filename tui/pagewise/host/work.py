"""What the devices that hold the model did in a turn, from the snapshots that were taken while tokens came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from pagewise.messages import ModelInfo
from pagewise.readings import DeviceMemory

Seen = Sequence[tuple[DeviceMemory, ...]]


def holding(devices: Sequence[DeviceMemory], model: ModelInfo) -> tuple[DeviceMemory, ...]:
    """Those on which llama.cpp has weights or KV cache of ``model``."""
    names = {buffer.device for buffer in model.buffers if buffer.kind in ("weights", "kv")}
    return tuple(device for device in devices if any(device.is_called(name) for name in names))


def mean_of(device: DeviceMemory, seen: Seen, value: Callable[[DeviceMemory], float | None]) -> float | None:
    """Mean of one of a device's figures; None where it was never told."""
    figures = [
        figure
        for snapshot in seen
        for one in snapshot
        if (one.source, one.index) == (device.source, device.index) and (figure := value(one)) is not None
    ]
    return fmean(figures) if figures else None


def mean_power_w(devices: Sequence[DeviceMemory], seen: Seen) -> float | None:
    """Mean power of ``devices`` together; None where one of them never told it."""
    return _together(devices, seen, lambda device: device.power_w)


def dram_bytes_s(devices: Sequence[DeviceMemory], seen: Seen) -> float | None:
    """Bytes a second that the memories of ``devices`` moved together; None where one of them never told it."""
    return _together(devices, seen, lambda device: device.dram_bytes_s)


def busiest_link(devices: Sequence[DeviceMemory], seen: Seen) -> tuple[float, float] | None:
    """Bytes a second in the busier direction of the link that is nearest to its limit, and that limit."""
    found = []
    for device in devices:
        received = mean_of(device, seen, lambda one: one.pcie_rx_bytes_s)
        sent = mean_of(device, seen, lambda one: one.pcie_tx_bytes_s)
        # A link that had been slowed down while idle is at its full speed once there is traffic.
        peak = max(
            (
                one.pcie_peak_bytes_s or 0.0
                for snapshot in seen
                for one in snapshot
                if (one.source, one.index) == (device.source, device.index)
            ),
            default=0.0,
        )
        if received is not None and sent is not None and peak:
            found.append((max(received, sent), peak))
    return max(found, key=lambda link: link[0] / link[1], default=None)


def _together(
    devices: Sequence[DeviceMemory], seen: Seen, value: Callable[[DeviceMemory], float | None]
) -> float | None:
    means = [mean_of(device, seen, value) for device in devices]
    known = [mean for mean in means if mean is not None]
    return sum(known) if known and len(known) == len(means) else None

"""Clocks of an NVIDIA device, and why they are lower than they could be, from NVML."""

from __future__ import annotations

from typing import Any

_SM, _MEMORY = 1, 2
"""``nvmlClockType_t``."""
_HW_SLOWDOWN = 0x08
_REASONS = {
    0x02: "clocks were set by hand",
    0x04: "power limit",
    _HW_SLOWDOWN: "hardware slowdown (heat or power)",
    0x10: "kept in step with other GPUs",
    0x20: "heat",
    0x40: "heat (the hardware's own limit)",
    0x80: "power brake of the supply",
    0x100: "clock of the display",
}
"""Bits of ``nvmlClocksEventReasons``; 0x01, idle, holds nothing back."""
_DETAILS_OF_SLOWDOWN = 0x40 | 0x80


def sm_clock(nvml: Any, handle: Any) -> float:
    """MHz of the multiprocessors now."""
    return float(nvml.nvmlDeviceGetClockInfo(handle, _SM))


def memory_clock(nvml: Any, handle: Any) -> float:
    """MHz of the memory now."""
    return float(nvml.nvmlDeviceGetClockInfo(handle, _MEMORY))


def highest_sm_clock(nvml: Any, handle: Any) -> float:
    """MHz that the multiprocessors can reach."""
    return float(nvml.nvmlDeviceGetMaxClockInfo(handle, _SM))


def memory_peak(nvml: Any, handle: Any) -> float:
    """Bytes a second that the memory can move at best: bus width × highest clock, two transfers a clock."""
    width = nvml.nvmlDeviceGetMemoryBusWidth(handle)
    return float(width / 8 * nvml.nvmlDeviceGetMaxClockInfo(handle, _MEMORY) * 1e6 * 2)


def held_back(nvml: Any, handle: Any) -> tuple[str, ...]:
    """Why the clocks are held back, in words; empty where nothing does."""
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        # Its name before driver 535.
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return reasons(bits)


def reasons(bits: int) -> tuple[str, ...]:
    """The bits in words; one that is not known is named by its number."""
    if bits & _DETAILS_OF_SLOWDOWN:
        bits &= ~_HW_SLOWDOWN
    known = [words for bit, words in _REASONS.items() if bits & bit]
    rest = bits & ~(0x01 | sum(_REASONS))
    return (*known, f"a reason that is not known here ({rest:#x})") if rest else tuple(known)

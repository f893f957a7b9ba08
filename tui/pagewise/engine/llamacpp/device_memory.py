"""Memory of the accelerators as ggml sees it, for those that nothing outside the engine can ask.

Asking opens a device, which takes memory on it: it is only done in the engine, where llama.cpp has opened them all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from pagewise.engine.llamacpp import library
from pagewise.models.gguf import printable
from pagewise.readings import BufferBytes, DeviceKind, GgmlDevice

_KINDS: dict[int, DeviceKind] = {1: "gpu", 2: "igpu"}
"""Devices with memory of their own, or with a share of RAM set apart; by ggml_backend_dev_type."""


class _Properties(ctypes.Structure):
    """ggml_backend_dev_props. A build from before ``device_id`` writes less: what follows then stays 0."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_uint8 * 64),
    )


def device_memory(buffers: Sequence[BufferBytes]) -> tuple[GgmlDevice, ...]:
    """Every accelerator; ``buffers`` are llama.cpp's own, on whatever device. Empty where this build does not say."""
    if library.device_properties is None:
        return ()
    found = []
    for pointer in library.device_pointers():
        kind = _KINDS.get(library.device_kind(pointer))
        if kind is not None:
            found.append(_described(pointer, kind, buffers))
    return tuple(found)


def _described(pointer: int, kind: DeviceKind, buffers: Sequence[BufferBytes]) -> GgmlDevice:
    properties = _Properties()
    library.device_properties(pointer, ctypes.byref(properties))
    name = _text(properties.name)
    return GgmlDevice(
        name=name,
        description=_text(properties.description),
        kind=kind,
        pci=_text(properties.device_id).lower(),
        total_bytes=properties.memory_total,
        # A driver's budget may be larger than the device for a moment.
        free_bytes=min(properties.memory_free, properties.memory_total),
        ours_bytes=sum(buffer.bytes for buffer in buffers if buffer.device == name),
    )


def _text(raw: Any) -> str:
    return printable((raw or b"").decode("utf-8", errors="replace"))

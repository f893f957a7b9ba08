"""Loads a mapped model without reading it.

llama.cpp has the kernel read the whole mapping before anything else, which for a file larger than memory takes out
again what came first. It leaves that be for a file with ranges that are read on demand, so for the time of a load it is
handed such a range for every file. Where this build keeps that list elsewhere the file is read as ever.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from llama_cpp import llama_cpp

_RANGES = "_ZZNK18llama_model_loader9lazy_read8for_fileEjE4none"
"""llama_model_loader::lazy_read::for_file(unsigned)::none, the list for files that have no such range; C++ mangled."""
_GUARD = "_ZGVZNK18llama_model_loader9lazy_read8for_fileEjE4none"
_TO_THE_END = 1 << 62


class _Vector(ctypes.Structure):
    """std::vector, as libstdc++ and libc++ lay it out."""

    _fields_ = [("first", ctypes.c_void_p), ("last", ctypes.c_void_p), ("room", ctypes.c_void_p)]


@contextmanager
def unread(*, by_granule: bool) -> Iterator[bool]:
    """While it lasts a model is mapped and not read; whether that is so here.

    ``by_granule``: faults will bring in nothing around them. Not for weights that go to a device, which reads them once
    from one end to the other.
    """
    try:
        ranges = _Vector.in_dll(llama_cpp._lib, _RANGES)
        guard = ctypes.c_uint8.in_dll(llama_cpp._lib, _GUARD)
    except (ValueError, AttributeError):
        yield False
        return
    one = (ctypes.c_size_t * 2)(0, _TO_THE_END if by_granule else 0)
    address = ctypes.addressof(one)
    # Otherwise the first use would make it an empty list.
    guard.value = 1
    ranges.first, ranges.last, ranges.room = address, address + ctypes.sizeof(one), address + ctypes.sizeof(one)
    try:
        yield True
    finally:
        ranges.first = ranges.last = ranges.room = None

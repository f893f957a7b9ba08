"""Nodes of ggml's graph as they lie in memory: the fields that the C functions do not give."""

from __future__ import annotations

import ctypes

from pagewise.engine.llamacpp import library

_OBJECT_BYTES = 32
MAX_SRC = 10


class Tensor(ctypes.Structure):
    """ggml_tensor; ggml 0.25."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * MAX_SRC),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    ]


def layout_is_known() -> bool:
    """Whether this build lays tensors out as ``Tensor`` says."""
    overhead = library.tensor_overhead
    return overhead is not None and bool(overhead() == ctypes.sizeof(Tensor) + _OBJECT_BYTES)


def tensor_at(pointer: int) -> Tensor:
    """The tensor at this address; valid as long as ggml's graph is."""
    return Tensor.from_address(pointer)


def sources(tensor: Tensor) -> list[int]:
    """Addresses of what it is computed from."""
    return [pointer for pointer in tensor.src if pointer]


def extents(tensor: Tensor) -> tuple[int, ...]:
    """Its four extents, the fastest first."""
    return tuple(tensor.ne)


def name_of(tensor: Tensor) -> str:
    """Its name, such as ``ffn_out-3``."""
    return bytes(tensor.name).decode("utf-8", errors="replace")

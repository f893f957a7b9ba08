"""llama.cpp's own account of a context's memory: bytes by buffer type and kind, of one built without memory too.

It is a C++ function that returns ``std::map<ggml_backend_buffer_type_t, {model, context, compute}>``. The map is read
as libstdc++ lays it out: a header of 48 bytes, nodes of a red-black tree. Where that is not so, there is no account.
"""

from __future__ import annotations

import ctypes
import sys
from typing import NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.llamacpp import library

_WORD = ctypes.c_uint64
_MAX_ENTRIES = 1024


class _Map(ctypes.Structure):
    _fields_ = [
        ("compare", _WORD),
        ("colour", _WORD),
        ("root", _WORD),
        ("leftmost", _WORD),
        ("rightmost", _WORD),
        ("count", _WORD),
    ]


class _Node(ctypes.Structure):
    _fields_ = [
        ("colour", _WORD),
        ("parent", _WORD),
        ("left", _WORD),
        ("right", _WORD),
        ("buffer_type", _WORD),
        ("model", _WORD),
        ("context", _WORD),
        ("compute", _WORD),
    ]


class Part(NamedTuple):
    """What lies, or would lie, in buffers of one type: bytes of weights, of KV cache and states, of compute buffers."""

    buffer_type: int
    weights: int
    kv: int
    compute: int


def _symbol(name: str, result: object, *arguments: object) -> ctypes._NamedFuncPointer | None:
    try:
        function: ctypes._NamedFuncPointer = getattr(llama_cpp._lib, name)
    except AttributeError:
        return None
    function.restype = result  # type: ignore[assignment]
    function.argtypes = list(arguments)  # type: ignore[arg-type]
    return function


_breakdown = _symbol("_Z26llama_get_memory_breakdownPK13llama_context", _Map, ctypes.c_void_p)
_delete = _symbol("_ZdlPv", None, ctypes.c_void_p)
available = sys.platform.startswith("linux") and ctypes.sizeof(ctypes.c_void_p) == 8 and _breakdown is not None


def breakdown(context: int) -> tuple[Part, ...] | None:
    """The account of the context at this address; None where this build gives none."""
    if not available or _breakdown is None or library.buffer_type_name is None:
        return None
    found = _breakdown(context)
    if found.count > _MAX_ENTRIES or (found.root == 0) != (found.count == 0):
        return None
    parts: list[Part] = []
    waiting = [found.root] if found.root else []
    seen: list[int] = []
    while waiting and len(seen) <= found.count:
        address = waiting.pop()
        seen.append(address)
        node = _Node.from_address(address)
        parts.append(Part(node.buffer_type, node.model, node.context, node.compute))
        waiting += [child for child in (node.left, node.right) if child]
    if len(seen) != found.count:
        return None
    for address in seen:
        if _delete is not None:
            _delete(address)
    return tuple(parts)

"""Bytes of GGUF files, made by hand: any metadata and tensors, sound or not."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ALIGNMENT = 32


class Array(NamedTuple):
    """An array of a numbered type, whatever its entries are."""

    kind: int
    entries: Sequence[Any]


class T(NamedTuple):
    """A tensor: type number, shape with the row length first, bytes of its data."""

    name: str
    type: int
    shape: tuple[int, ...]
    bytes: int


def text(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded


def typed(value: Any) -> bytes:
    """Type number and value."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<IQ", 10, value) if value >= 0 else struct.pack("<Iq", 11, value)
    if isinstance(value, float):
        return struct.pack("<Id", 12, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    assert isinstance(value, Array)
    return struct.pack("<IIQ", 9, value.kind, len(value.entries)) + b"".join(
        _entry(value.kind, e) for e in value.entries
    )


def _entry(kind: int, value: Any) -> bytes:
    if kind == 8:
        return text(value)
    if kind == 9:
        return typed(value)[4:]
    return struct.pack("<" + {0: "B", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 12: "d"}[kind], value)


def gguf(
    metadata: Mapping[str, Any], tensors: Sequence[T] = (), *, version: int = 3, alignment: int = ALIGNMENT
) -> bytes:
    """A whole file; tensors' data is zeros, one after the other."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + typed(value) for key, value in metadata.items())
    offset = 0
    for tensor in tensors:
        head += (
            text(tensor.name)
            + struct.pack("<I", len(tensor.shape))
            + struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        )
        head += struct.pack("<IQ", tensor.type, offset)
        offset += -(-tensor.bytes // alignment) * alignment
    return head + bytes(-len(head) % alignment) + bytes(offset)

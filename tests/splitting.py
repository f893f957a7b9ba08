"""Splits a GGUF file as llama.cpp's gguf-split does."""

from __future__ import annotations

import struct
from pathlib import Path

from pagewise.models.gguf import Tensor, read_header
from pagewise.models.quant import TENSOR_TYPES

_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
_ALIGNMENT = 32


def split(source: Path, prefix: Path, parts: int) -> Path:
    """Write ``source`` as ``PREFIX-00001-of-0000N.gguf`` and so on; the first one's path."""
    header = read_header(source)
    raw = source.read_bytes()
    tensors = header.tensors
    metadata = raw[24 : header.header_bytes - sum(len(_entry(tensor, 0)) for tensor in tensors)]
    per_part = -(-len(tensors) // parts)
    paths = []
    for number in range(parts):
        own = tensors[number * per_part : (number + 1) * per_part]
        entries, data = b"", b""
        for tensor in own:
            entries += _entry(tensor, len(data))
            data += raw[tensor.start : tensor.end] + bytes(-tensor.bytes % _ALIGNMENT)
        keys = metadata if number == 0 else b""
        keys += _key("split.no", 2, "H", number) + _key("split.count", 2, "H", parts)
        keys += _key("split.tensors.count", 5, "i", len(tensors))
        n_keys = (len(header.metadata) if number == 0 else 0) + 3
        head = struct.pack("<4sIQQ", b"GGUF", 3, len(own), n_keys) + keys + entries
        path = prefix.with_name(f"{prefix.name}-{number + 1:05d}-of-{parts:05d}.gguf")
        path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + data)
        paths.append(path)
    return paths[0]


def _entry(tensor: Tensor, offset: int) -> bytes:
    name = tensor.name.encode()
    return (
        struct.pack("<Q", len(name))
        + name
        + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        + struct.pack("<IQ", _NUMBERS[tensor.type.name], offset)
    )


def _key(name: str, kind: int, code: str, value: int) -> bytes:
    raw = name.encode()
    return struct.pack("<Q", len(raw)) + raw + struct.pack(f"<I{code}", kind, value)

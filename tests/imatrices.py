"""Importance matrices of chosen values, in both formats."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 32
Entry = tuple[npt.NDArray[np.float32], list[float]]
"""Sums of squares, and for each expert how many rows were summed."""


def write_gguf(path: Path, entries: Mapping[str, Entry], dataset: str = "wiki.txt", chunks: int = 7) -> Path:
    """As llama-imatrix writes it today."""
    keys = [
        _text("general.type") + struct.pack("<I", 8) + _text("imatrix"),
        _text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 1) + _text(dataset),
        _text("imatrix.chunk_count") + struct.pack("<II", 4, chunks),
        _text("imatrix.chunk_size") + struct.pack("<II", 4, 512),
    ]
    directory, data = b"", b""
    for name, (sums, counts) in entries.items():
        for suffix, values in ((".in_sum2", sums), (".counts", np.array(counts, np.float32))):
            directory += _text(name + suffix) + struct.pack(
                "<IQQIQ", 2, values.size // len(counts), len(counts), 0, len(data)
            )
            data += values.tobytes() + bytes(-values.nbytes % _ALIGNMENT)
    head = struct.pack("<4sIQQ", b"GGUF", 3, 2 * len(entries), len(keys)) + b"".join(keys) + directory
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + data)
    return path


def write_dat(path: Path, entries: Mapping[str, Entry], dataset: str = "wiki.txt", chunks: int = 7) -> Path:
    """As it did until 2025: of one expert each, sums already divided by rows and multiplied by calls."""
    raw = struct.pack("<i", len(entries))
    for name, (sums, counts) in entries.items():
        calls = 3
        values = sums / np.float32(counts[0]) * np.float32(calls)
        raw += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, values.size)
        raw += values.astype("<f4").tobytes()
    path.write_bytes(raw + struct.pack("<ii", chunks, len(dataset)) + dataset.encode())
    return path


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()

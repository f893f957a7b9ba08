"""Which bytes of a model file belong to which layer."""

from __future__ import annotations

import re
from typing import NamedTuple

from pagewise.models.gguf import GgufHeader, Tensor

_BLOCK = re.compile(r"^(?:blk|enc\.blk|dec\.blk)\.(\d{1,7})\.")
INPUT = "input"
OUTPUT = "output"


class LayerRange(NamedTuple):
    """The byte ranges of one layer: half-open ``(start, end)``, absolute in the file, merged where they touch."""

    name: str
    """``input``, the layer's number, or ``output``."""
    bytes: int
    """Bytes of the tensors, without alignment between them."""
    ranges: tuple[tuple[int, int], ...]


def layer_of(tensor: str) -> str:
    """``input``, ``output``, or the number of the layer that a tensor's name says it belongs to."""
    block = _BLOCK.match(tensor)
    if block:
        return block[1]
    return OUTPUT if tensor.startswith("output") else INPUT


def layer_ranges(header: GgufHeader) -> tuple[LayerRange, ...]:
    """``input``, then layers by number, then ``output``. A layer without bytes of its own is left out.

    The output of a model with tied embeddings has no matrix of its own: its ranges hold the norm alone.
    """
    members: dict[str, list[Tensor]] = {}
    for tensor in header.tensors:
        members.setdefault(layer_of(tensor.name), []).append(tensor)
    return tuple(
        LayerRange(name, sum(tensor.bytes for tensor in members[name]), _merged(members[name]))
        for name in sorted(members, key=layer_order)
    )


def layer_order(name: str) -> tuple[int, int]:
    """Sorts names of layers: ``input``, layers by number, ``output``."""
    if name == INPUT:
        return (0, 0)
    if name == OUTPUT:
        return (2, 0)
    return (1, int(name))


def _merged(tensors: list[Tensor]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for tensor in sorted(tensors, key=lambda entry: entry.start):
        if merged and tensor.start - merged[-1][1] < 4096:
            merged[-1] = (merged[-1][0], max(merged[-1][1], tensor.end))
        else:
            merged.append((tensor.start, tensor.end))
    return tuple(merged)

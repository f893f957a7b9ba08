"""Which device each tensor of a model goes to, counted as llama.cpp counts it, from the header alone.

The last layers are offloaded first, and the output is the last of all; the input stays in RAM. Over several devices
layers are split in one run each, by shares. A tensor override wins over all of that.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pagewise.models.gguf import Tensor
from pagewise.models.layers import INPUT, OUTPUT, layer_of

EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps\.")
"""Tensors of a mixture's routed experts."""
RAM = None
Home = int | None
"""A device by its number, or RAM."""


class LayerBytes(NamedTuple):
    """A layer's weights, and how many of them are experts'. ``number``: the output's comes behind the last layer's."""

    number: int
    bytes: int
    expert_bytes: int


def layer_homes(n_layer: int, n_gpu_layers: int, shares: Sequence[float]) -> tuple[Home, ...]:
    """Where each layer goes, the output last: ``n_layer + 1`` entries. ``shares`` has one for each device."""
    total = sum(shares)
    offloaded = min(n_gpu_layers, n_layer + 1) if total > 0 else 0
    first = n_layer + 1 - offloaded
    ends, reached = [], 0.0
    for share in shares:
        reached += share
        ends.append(reached / total if total > 0 else 0.0)
    return tuple(
        RAM if index < first else min(bisect_right(ends, (index - first) / offloaded), len(shares) - 1)
        for index in range(n_layer + 1)
    )


def weights_by_home(
    tensors: Sequence[Tensor],
    n_layer: int,
    homes: Sequence[Home],
    overrides: Iterable[tuple[re.Pattern[str], Home]] = (),
) -> dict[Home, int]:
    """Bytes of weights on each device and in RAM. Tied embeddings are there twice where the output is on a device."""
    fixed = tuple(overrides)
    found: dict[Home, int] = {}
    for tensor in tensors:
        home = next((home for pattern, home in fixed if pattern.search(tensor.name)), _home(tensor.name, homes))
        found[home] = found.get(home, 0) + tensor.bytes
    if homes and homes[n_layer] is not RAM:
        found[homes[n_layer]] = found.get(homes[n_layer], 0) + _tied_bytes(tensors)
    return found


def layer_bytes(tensors: Sequence[Tensor], n_layer: int) -> tuple[LayerBytes, ...]:
    """Every layer with its bytes, as each would weigh on a device; the output last."""
    weights, experts = [0] * (n_layer + 1), [0] * (n_layer + 1)
    for tensor in tensors:
        index = _index(tensor.name, n_layer)
        if index is not None:
            weights[index] += tensor.bytes
            experts[index] += tensor.bytes if EXPERTS.search(tensor.name) else 0
    weights[n_layer] += _tied_bytes(tensors)
    return tuple(LayerBytes(index, weights[index], experts[index]) for index in range(n_layer + 1))


def _home(name: str, homes: Sequence[Home]) -> Home:
    index = _index(name, len(homes) - 1)
    return RAM if index is None else homes[index]


def _index(name: str, n_layer: int) -> int | None:
    layer = layer_of(name)
    if layer == INPUT:
        return None
    return n_layer if layer == OUTPUT else min(int(layer), n_layer)


def _tied_bytes(tensors: Sequence[Tensor]) -> int:
    if any(tensor.name == "output.weight" for tensor in tensors):
        return 0
    return sum(tensor.bytes for tensor in tensors if tensor.name == "token_embd.weight")

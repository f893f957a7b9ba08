"""Where each expert of a mixture lies in its file: its slice of each of the layer's expert tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pagewise.models.gguf import Tensor
from pagewise.models.layers import layer_of, layer_order
from pagewise.placement.pages import PAGE


class Slice(NamedTuple):
    """One expert's bytes of one tensor."""

    part: int
    start: int
    end: int


class ExpertLayout(NamedTuple):
    """The experts of a model; those of layer ``l`` (by index) have the numbers ``l * n_expert + e``."""

    layers: tuple[str, ...]
    n_expert: int
    slices: tuple[tuple[Slice, ...], ...]
    tensors: frozenset[str]

    @property
    def bytes(self) -> int:
        """All of them together."""
        return sum(piece.end - piece.start for slices in self.slices for piece in slices)

    @property
    def edge_bytes(self) -> int:
        """Pages that two slices share: they stay."""
        return PAGE * sum(len(slices) for slices in self.slices)

    @property
    def largest(self) -> int:
        """Bytes of the largest expert."""
        return max(sum(piece.end - piece.start for piece in slices) for slices in self.slices)


def expert_layout(tensors: Iterable[tuple[int, Tensor]], n_expert: int) -> ExpertLayout | None:
    """The experts among these (part, tensor); None where there are none."""
    if n_expert < 2:
        return None
    by_layer: dict[str, list[tuple[int, Tensor]]] = {}
    for part, tensor in tensors:
        # All experts of a layer lie in one tensor, one behind the other.
        if "exps." in tensor.name and tensor.shape[-1] == n_expert and tensor.bytes >= n_expert * PAGE:
            by_layer.setdefault(layer_of(tensor.name), []).append((part, tensor))
    if not by_layer:
        return None
    layers = tuple(sorted(by_layer, key=layer_order))
    slices = []
    for layer in layers:
        for expert in range(n_expert):
            pieces = []
            for part, tensor in by_layer[layer]:
                size = tensor.bytes // n_expert
                pieces.append(Slice(part, tensor.start + expert * size, tensor.start + (expert + 1) * size))
            slices.append(tuple(pieces))
    names = frozenset(tensor.name for members in by_layer.values() for _, tensor in members)
    return ExpertLayout(layers, n_expert, tuple(slices), names)

"""A mixture's routers: which experts each layer really chose for a probed token, read from the graph."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.model import Model
from pagewise.engine.llamacpp.tensor import layout_is_known, tensor_at

_CHOICE = re.compile(r"^ffn_moe_topk-(\d+)$")
_INT32 = 26
_INT32_BYTES = 4


class Routers:
    """Where in the graph the choices are, and those of one token. Without experts there is nothing to read."""

    def __init__(self, model: Model) -> None:
        readable = library.tensor_read is not None and layout_is_known()
        self.n_expert = model.file.number("expert_count", 0) if readable else 0
        """Experts of a layer; 0: there are none, or their choice cannot be read."""
        self.nodes: dict[int, str] = {}
        """Nodes that hold a choice, by index in the graph: the layer's name."""
        self._chosen: dict[str, tuple[int, ...]] = {}

    def learn(self, names: Sequence[str]) -> None:
        """Find the choices in a graph by the names of its nodes in order."""
        found = {index: match[1] for index, name in enumerate(names) if (match := _CHOICE.match(name))}
        self.nodes = found if self.n_expert else {}

    def forget(self) -> None:
        """Another token."""
        self._chosen = {}

    def read(self, index: int, pointer: int) -> None:
        """The choice at this node, which has just been computed. Its memory is used again by later nodes."""
        rows = rows_of(pointer)
        if rows and len(rows[0]) <= self.n_expert:
            self._chosen[self.nodes[index]] = tuple(sorted(expert for expert in rows[0] if 0 <= expert < self.n_expert))

    def choices(self, names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """One entry for each layer of ``names``; none at all where no choice was read."""
        return tuple(self._chosen.get(name, ()) for name in names) if self._chosen else ()


def rows_of(pointer: int) -> list[list[int]]:
    """The choice for each token, from the node that holds it; none where it is not what it is expected to be.

    A row may be the beginning of a longer one: the first of all experts in their order.
    """
    tensor = tensor_at(pointer)
    count, tokens, stride = int(tensor.ne[0]), int(tensor.ne[1]), int(tensor.nb[1])
    if tensor.type != _INT32 or count < 1 or tokens < 1 or stride % _INT32_BYTES:
        return []
    wide = stride // _INT32_BYTES
    values = (ctypes.c_int32 * (wide * (tokens - 1) + count))()
    library.tensor_read(pointer, ctypes.addressof(values), 0, ctypes.sizeof(values))
    return [values[wide * row : wide * row + count] for row in range(tokens)]

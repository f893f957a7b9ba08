"""The operator profile: what each node of the graph of one token took.

As for the layer clock, the callback is set on the scheduler for the one token and taken away after it. It wants every
node, so each is computed and waited for by itself. Between the two calls for a node only the node is computed: what
Python does lies outside. Names and sizes are read from the graph after the token, while it still stands.
"""

from __future__ import annotations

import math
import re
import time
from statistics import median
from typing import Any, NamedTuple

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context, scheduler_of
from pagewise.engine.llamacpp.probe import Listen
from pagewise.engine.llamacpp.tensor import Tensor, extents, layout_is_known, name_of, sources, tensor_at
from pagewise.models.layers import INPUT, OUTPUT, layer_of
from pagewise.models.quant import TENSOR_TYPES
from pagewise.readings import GraphNode

IDLE_OPERATORS = frozenset({"NONE", "RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE"})
"""Nodes that only name bytes anew."""
_NO_CALLBACK = library.EvalCallback(0)
_SUFFIX = re.compile(r"-(\d+)(?: |$)")
_COPY_PREFIX = re.compile(r"^[^#]*#(.+)#\d+$")


class Computed(NamedTuple):
    """What the graph of one token took, node by node. ``idle_node_ms``: the median of those that compute nothing."""

    nodes: tuple[GraphNode, ...]
    idle_node_ms: float | None


class OperatorProbe:
    """Profiles one evaluation at a time on one context. Make a new one for a new context."""

    def __init__(self, context: Context, listen: Listen | None = None) -> None:
        """``listen``: takes the place of the scheduler where another callback is on it for good."""
        self._scheduler = scheduler_of(context.pointer) if _can_ask() else None
        self._listen = listen
        self._weights = {tensor.name for header in context.model.file.headers for tensor in header.tensors}
        self._callback = library.EvalCallback(self._called)
        self._marks: list[tuple[int, int, int]] = []
        self._asked_ns = 0

    @property
    def available(self) -> bool:
        """Whether this build lets us set the callback, and read the graph."""
        return self._scheduler is not None

    def arm(self) -> None:
        """The next evaluation is profiled."""
        self._marks = []
        if self._listen is not None:
            self._listen(self._called)
        else:
            library.set_eval_callback(self._scheduler, self._callback, None)

    def disarm(self) -> Computed | None:
        """Take the callback away. None where llama.cpp had built its graph anew, and had taken it away before."""
        if self._listen is not None:
            self._listen(None)
        else:
            library.set_eval_callback(self._scheduler, _NO_CALLBACK, None)
        if not self._marks:
            return None
        marks, self._marks = self._marks, []
        nodes: list[GraphNode] = []
        idle: list[float] = []
        layer = INPUT
        for pointer, begin_ns, end_ns in marks:
            ms = (end_ns - begin_ns) / 1e6
            tensor = tensor_at(pointer)
            operator = _text(library.operator_name(pointer))
            if operator in IDLE_OPERATORS:
                idle.append(ms)
                continue
            node = self._node(pointer, tensor, operator, layer, ms)
            layer = node.layer
            nodes.append(node)
        return Computed(tuple(nodes), median(idle) if idle else None)

    def _called(self, tensor: int, ask: bool, _user_data: Any) -> bool:
        now = time.perf_counter_ns()
        if ask:
            self._asked_ns = time.perf_counter_ns()
        else:
            self._marks.append((tensor, self._asked_ns, now))
        return True

    def _node(self, pointer: int, tensor: Tensor, operator: str, before: str, ms: float) -> GraphNode:
        name = name_of(tensor)
        read = [(source, tensor_at(source)) for source in sources(tensor)]
        weights = next((found for _, source in read if (found := self._weights_of(source))), "")
        largest = max((source for _, source in read), key=_bytes, default=tensor)
        return GraphNode(
            operator=operator,
            name=name,
            layer=_layer(name, weights, before),
            device=_device(tensor),
            tensor=weights,
            type=_text(library.type_name(largest.type)),
            bytes=moved_bytes(operator, tensor, [source for _, source in read]),
            ms=ms,
        )

    def _weights_of(self, tensor: Tensor) -> str:
        """The name of the weights that this is, or is a view or a device's copy of; empty for what was computed."""
        if tensor.view_src:
            tensor = tensor_at(tensor.view_src)
        name = name_of(tensor)
        copied = _COPY_PREFIX.match(name)
        name = copied[1] if copied else name
        return name if name in self._weights else ""


def moved_bytes(operator: str, result: Tensor, read: list[Tensor]) -> int:
    """Bytes that a node reads and writes: of rows that are picked, and of experts that are routed to, only those."""
    if operator == "GET_ROWS" and len(read) >= 2:
        return _row(read[0]) * _elements(read[1]) + _bytes(read[1]) + _bytes(result)
    if operator == "SET_ROWS" and read:
        # The result is the whole cache; written are as many rows as there are in what is stored.
        return _bytes(read[0]) + _row(result) * (_elements(read[0]) // max(1, extents(read[0])[0]))
    if operator == "MUL_MAT_ID" and len(read) >= 3:
        experts = max(1, extents(read[0])[2])
        routed = min(experts, _elements(read[2]))
        return _bytes(read[0]) * routed // experts + sum(map(_bytes, read[1:])) + _bytes(result)
    return sum(map(_bytes, read)) + _bytes(result)


def _bytes(tensor: Tensor) -> int:
    """Rows times bytes of a row: of a view with gaps only what is in it."""
    return _row(tensor) * (_elements(tensor) // max(1, extents(tensor)[0]))


def _row(tensor: Tensor) -> int:
    kind = TENSOR_TYPES.get(tensor.type)
    if kind is None:
        return int(tensor.nb[1])
    return extents(tensor)[0] // kind.block * kind.bytes


def _elements(tensor: Tensor) -> int:
    return math.prod(extents(tensor))


def _layer(name: str, weights: str, before: str) -> str:
    """By its own name, else by its weights', else where the node before it was."""
    suffix = _SUFFIX.search(name)
    if suffix:
        return suffix[1]
    if weights:
        layer = layer_of(weights)
        return OUTPUT if layer == INPUT and before != INPUT else layer
    return OUTPUT if name.startswith("result") else before


def _device(tensor: Tensor) -> str:
    """The device of the buffer that the result is in; a host buffer of a GPU is RAM, and computed by the CPU."""
    buffer = tensor.buffer
    if not buffer and tensor.view_src:
        buffer = tensor_at(tensor.view_src).buffer
    if not buffer or library.buffer_is_host(buffer):
        return "CPU"
    device = library.buffer_type_device(library.buffer_type_of(buffer))
    return _text(library.device_name(device)) if device else "CPU"


def _can_ask() -> bool:
    needed = (
        library.set_eval_callback,
        library.operator_name,
        library.type_name,
        library.buffer_is_host,
        library.buffer_type_of,
        library.buffer_type_device,
    )
    return all(function is not None for function in needed) and layout_is_known()


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", errors="replace")

"""What the profilers found: one token by its graph's nodes, and sampled stacks."""

from __future__ import annotations

from msgspec import Struct


class GraphNode(Struct, frozen=True, array_like=True):
    """One node of the graph of one token, as it was computed by itself."""

    operator: str
    """ggml's name of the operator, such as ``MUL_MAT``."""
    name: str
    """llama.cpp's name of the result, such as ``Qcur-3``."""
    layer: str
    """``input``, the layer's number, or ``output``."""
    device: str
    tensor: str
    """The weights that it reads, such as ``blk.3.attn_q.weight``; empty where it reads none."""
    type: str
    """ggml's type of what it reads most of, such as ``q4_K``."""
    bytes: int
    """Read and written: of experts and rows those that were used."""
    ms: float


class OperatorProfile(Struct, frozen=True):
    """One token, computed node by node. Each node was waited for, so that its time is an upper bound."""

    token: int
    """Which output token of the turn it was, from 0."""
    depth: int
    """Tokens in the KV cache before it."""
    step_ms: float
    """What this token took."""
    usual_ms: float | None
    """Median of the tokens around it, which were not profiled; None where there were none."""
    nodes: tuple[GraphNode, ...]
    idle_node_ms: float | None
    """Median time of the nodes that compute nothing (views): what asking for a node costs by itself."""


class StackProfile(Struct, frozen=True):
    """Stacks of one process, sampled."""

    pid: int
    program: str
    tool: str
    """``py-spy`` or ``perf``."""
    rate_hz: int
    seconds: float
    native: bool
    """Whether frames of native code are among them."""
    folded: str
    """One stack a line, root first, frames joined by ``;``, behind them a blank and the number of samples."""
    unseen_threads: int | None
    """Threads that ran on a core meanwhile and that the tool cannot see."""
    unseen_cores: float | None
    """How many cores these kept busy."""
    notes: tuple[str, ...] = ()

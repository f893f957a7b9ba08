"""The operator profile as a table: nodes grouped by what they compute, by layer, device or tensor type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pagewise.app.figures import count, duration, percent, rate, share, significant, size
from pagewise.app.spans import Line, Span, fill, line, plain
from pagewise.app.visible import visible_line
from pagewise.readings import GraphNode, OperatorProfile

_CLASSES = {
    "MUL_MAT": "matrix product",
    "MUL_MAT_ID": "expert product",
    "FLASH_ATTN_EXT": "attention",
    "SOFT_MAX": "attention",
    "RMS_NORM": "norm",
    "NORM": "norm",
    "L2_NORM": "norm",
    "GROUP_NORM": "norm",
    "ROPE": "position (rope)",
    "GET_ROWS": "rows picked",
    "SET_ROWS": "KV write",
    "CPY": "copy",
    "CONT": "copy",
    "DUP": "copy",
    "CONCAT": "copy",
    "ADD": "sum and scale",
    "ADD_ID": "sum and scale",
    "SUB": "sum and scale",
    "MUL": "sum and scale",
    "DIV": "sum and scale",
    "SCALE": "sum and scale",
    "SUM_ROWS": "routing",
    "ARGSORT": "routing",
    "TOP_K": "routing",
    "SSM_CONV": "recurrence",
    "SSM_SCAN": "recurrence",
    "RWKV_WKV6": "recurrence",
    "RWKV_WKV7": "recurrence",
    "GATED_LINEAR_ATTN": "recurrence",
    "GATED_DELTA_NET": "recurrence",
}
_ACTIVATIONS = ("GLU", "SILU", "GELU", "RELU", "SIGMOID", "TANH", "EXP", "SOFTPLUS", "UNARY")


def class_of(node: GraphNode) -> str:
    """What a node computes, in words."""
    name = node.name.lower()
    if node.operator == "MUL_MAT" and not node.tensor and name.startswith(("kq", "node", "fattn")):
        return "attention"
    if node.operator == "MUL" and "norm" in (node.tensor + name):
        return "norm"
    known = _CLASSES.get(node.operator)
    if known is not None:
        return known
    if any(word in node.operator.upper() for word in _ACTIVATIONS):
        return "activation"
    return node.operator.lower().replace("_", " ")


def _own_name(node: GraphNode) -> str:
    """Without the layer, which stands before it."""
    name = node.tensor.removeprefix(f"blk.{node.layer}.").removesuffix(".weight")
    return name or node.name.removesuffix(f"-{node.layer}")


GROUPINGS: tuple[tuple[str, Callable[[GraphNode], str]], ...] = (
    ("operator", class_of),
    ("layer", lambda node: node.layer),
    ("device", lambda node: node.device),
    ("type", lambda node: node.type),
    ("node", lambda node: f"{node.layer:>6} {_own_name(node)}  {node.operator}"),
)
ORDERS = ("time", "bytes", "bandwidth", "graph")


class Row(NamedTuple):
    """Nodes that are one line of the table."""

    name: str
    n: int
    ms: float
    bytes: int

    @property
    def bandwidth(self) -> float:
        """Bytes a second; 0 where no time was measured."""
        return self.bytes / self.ms * 1000 if self.ms > 0 else 0.0


def rows(profile: OperatorProfile, grouping: int, order: int, words: str = "") -> list[Row]:
    """The table's lines. ``words``: only nodes that hold each of them; a number is a layer."""
    group = GROUPINGS[grouping][1]
    found: dict[str, list[GraphNode]] = {}
    for node in filtered(profile.nodes, words):
        found.setdefault(group(node), []).append(node)
    table = [
        Row(name, len(nodes), sum(node.ms for node in nodes), sum(node.bytes for node in nodes))
        for name, nodes in found.items()
    ]
    keys: dict[str, Callable[[Row], float]] = {
        "time": lambda row: -row.ms,
        "bytes": lambda row: -row.bytes,
        "bandwidth": lambda row: -row.bandwidth,
    }
    key = keys.get(ORDERS[order])
    return sorted(table, key=key) if key else table


def filtered(nodes: Iterable[GraphNode], words: str) -> list[GraphNode]:
    """Nodes that hold each of the words."""
    wanted = words.lower().split()
    return [node for node in nodes if all(_holds(node, word) for word in wanted)]


def _holds(node: GraphNode, word: str) -> bool:
    if word.isdigit():
        return word == node.layer
    texts = (node.operator, class_of(node), node.name, node.tensor, node.device, node.type, node.layer)
    return any(word in text.lower() for text in texts)


_COLUMNS = (("nodes", 7), ("time", 10), ("share", 8), ("bytes", 11), ("bandwidth", 11))
_FIGURES = sum(width for _, width in _COLUMNS)


def _padded(name: str, width: int) -> str:
    return plain(fill(((name, "text"),), max(width - _FIGURES, 1)))


def draw_head(name: str, order: int, width: int) -> Line:
    """The columns' names; the one that is sorted by is marked."""
    sorted_by = {"time": "time", "bytes": "bytes", "bandwidth": "bandwidth"}.get(ORDERS[order], "")
    spans: list[Span] = [(_padded(name, width), "label")]
    for column, cells in _COLUMNS:
        here = column == sorted_by
        spans.append((f"{column + ('↓' if here else ''):>{cells}}", "accent" if here else "muted"))
    return tuple(spans)


def draw_row(row: Row, whole_ms: float, width: int) -> Line:
    """One line of the table."""
    return line(
        (_padded(visible_line(row.name), width), "text"),
        (f"{count(row.n):>7}", "muted"),
        (f"{duration(row.ms):>10}", "value"),
        (f"{percent(share(row.ms, whole_ms)):>8}", "text"),
        (f"{size(row.bytes):>11}", "text"),
        (f"{rate(row.bandwidth) if row.bytes else '–':>11}", "text"),
    )


def explain_cost(profile: OperatorProfile) -> list[Span]:
    """What was measured, and how much slower the token was for it."""
    nodes_ms = sum(node.ms for node in profile.nodes)
    spans: list[Span] = [
        (f"Token {count(profile.token)} at depth {count(profile.depth)}: ", "muted"),
        (duration(profile.step_ms), "value"),
        (f" node by node, {duration(nodes_ms)} of it inside {count(len(profile.nodes))} nodes. ", "muted"),
    ]
    if profile.usual_ms:
        factor = profile.step_ms / profile.usual_ms
        more = profile.step_ms - profile.usual_ms
        if more > 0:
            words = f"The profile slowed it by {duration(more)}: {significant(factor)} times the "
        else:
            words = "Slower it was not: other programs moved it more than the profile did. Usual are the "
        spans += [(words, "text"), (f"{duration(profile.usual_ms)} of the tokens around it. ", "text")]
    else:
        spans.append(("How much that slowed it is not known: no token beside it was left alone. ", "text"))
    spans.append(("Each node was waited for, so its time is an upper bound", "muted"))
    if profile.idle_node_ms is not None:
        spans.append((f"; asking alone takes {1000 * profile.idle_node_ms:.1f} µs a node", "muted"))
    spans.append((".", "muted"))
    return spans

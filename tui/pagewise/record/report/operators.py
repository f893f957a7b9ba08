"""The operator profile of one token on the page: a table for each way of looking at its nodes."""

from __future__ import annotations

from pagewise.app.figures import count, duration, percent, rate, share, size
from pagewise.app.profiler.operators import GROUPINGS, ORDERS, explain_cost, rows
from pagewise.readings import OperatorProfile
from pagewise.record.report.elements import table, text
from pagewise.record.report.svg import clock

_HEAD = ("nodes", "time", "share", "bytes", "bandwidth")
_BY_TIME = ORDERS.index("time")
_IN_GRAPH_ORDER = ORDERS.index("graph")
_SHOWN = ("operator", "type", "device")
MOST_ROWS = 40


def operators_section(at_s: float, profile: OperatorProfile) -> str:
    """What it says and cost, then time by operator, tensor type and device, and folded away, by layer and node."""
    said = "".join(words for words, _ in explain_cost(profile))
    parts = [
        f"<h3>Operators of one token <small>token {count(profile.token)}, at {clock(at_s)}</small></h3>",
        f"<p class=muted>{text(said)}</p>",
    ]
    for index, (name, _) in enumerate(GROUPINGS):
        if name in _SHOWN:
            parts.append(_table(profile, index, name, _BY_TIME))
        else:
            order = _IN_GRAPH_ORDER if name == "layer" else _BY_TIME
            parts.append(f"<details><summary>By {name}</summary>{_table(profile, index, name, order)}</details>")
    return "".join(parts)


def _table(profile: OperatorProfile, grouping: int, name: str, order: int) -> str:
    found = rows(profile, grouping, order)
    whole_ms = sum(node.ms for node in profile.nodes)
    shown = [
        (
            row.name,
            count(row.n),
            duration(row.ms),
            percent(share(row.ms, whole_ms)),
            size(row.bytes),
            rate(row.bandwidth) if row.bytes else "–",
        )
        for row in (found if name == "layer" else found[:MOST_ROWS])
    ]
    left = len(found) - len(shown)
    more = f"<p class=muted>{count(left)} more are in operators.csv (--csv).</p>" if left else ""
    return table((name, *_HEAD), shown, frozenset(range(1, 6))) + more

"""The operator profile as a table."""

from __future__ import annotations

from app import scenes_profiler as scenes
from pagewise.app.profiler.operators import (
    GROUPINGS,
    ORDERS,
    class_of,
    draw_head,
    draw_row,
    explain_cost,
    filtered,
    rows,
)
from pagewise.app.spans import plain, width_of

PROFILE = scenes.OPERATORS
BY = {name: index for index, (name, _) in enumerate(GROUPINGS)}


def test_every_grouping_holds_all_time_and_bytes() -> None:
    for grouping in range(len(GROUPINGS)):
        for order in range(len(ORDERS)):
            table = rows(PROFILE, grouping, order)
            assert abs(sum(row.ms for row in table) - sum(node.ms for node in PROFILE.nodes)) < 1e-9
            assert sum(row.bytes for row in table) == sum(node.bytes for node in PROFILE.nodes)
            assert sum(row.n for row in table) == len(PROFILE.nodes)


def test_operators_by_what_they_compute() -> None:
    classes = {node.name: class_of(node) for node in PROFILE.nodes}
    assert classes["Qcur-0"] == "matrix product"
    assert classes["kq-0"] == classes["fattn-1"] == "attention"
    assert classes["attn_norm-0"] == "norm"
    assert classes["ffn_swiglu-0"] == "activation"
    assert classes["ffn_moe_gate-1"] == "expert product"


def test_rows_are_sorted() -> None:
    by_time = [row.ms for row in rows(PROFILE, BY["layer"], ORDERS.index("time"))]
    assert by_time == sorted(by_time, reverse=True)
    by_bandwidth = [row.bandwidth for row in rows(PROFILE, BY["type"], ORDERS.index("bandwidth"))]
    assert by_bandwidth == sorted(by_bandwidth, reverse=True)
    assert [row.name for row in rows(PROFILE, BY["layer"], ORDERS.index("graph"))] == ["input", "0", "1", "output"]


def test_bandwidth_is_bytes_over_time() -> None:
    row = next(row for row in rows(PROFILE, BY["type"], 0) if row.name == "q6_K")
    assert row.bandwidth == 8_000_000 / 0.002
    assert "4.0 GB/s" in plain(draw_row(row, 10.0, 80))


def test_a_filter_takes_every_word() -> None:
    assert {node.layer for node in filtered(PROFILE.nodes, "1")} == {"1"}
    assert [node.name for node in filtered(PROFILE.nodes, "norm 0")] == ["norm-0", "attn_norm-0"]
    assert filtered(PROFILE.nodes, "nothing") == []
    assert len(filtered(PROFILE.nodes, "")) == len(PROFILE.nodes)


def test_columns_stand_below_their_names() -> None:
    for width in (76, 116):
        head = draw_head("by layer", 0, width)
        for row in rows(PROFILE, 0, 0):
            assert width_of(draw_row(row, 10.0, width)) == width_of(head) == width


def test_it_says_how_much_it_slowed_the_token() -> None:
    words = plain(explain_cost(PROFILE))
    assert "slowed it by 10.0 ms" in words and "2.00 times" in words
    faster = plain(explain_cost(scenes.operators(step_ms=8.0)))
    assert "Slower it was not" in faster
    assert "not known" in plain(explain_cost(scenes.operators(usual_ms=None)))

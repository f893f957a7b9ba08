from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from tests.synthetic import make_model

from pagewise.models.gguf import read_header
from pagewise.models.layers import layer_of
from pagewise.placement.plan import Block, Plan, Span, blocks_of, layout, make_plan

PAGE = 4096


@st.composite
def many_blocks(draw: st.DrawFn) -> tuple[Block, ...]:
    sizes = draw(st.lists(st.integers(1, 40 * PAGE), min_size=1, max_size=30))
    spans, at = [], draw(st.integers(0, 3 * PAGE))
    for step, size in enumerate(sizes):
        spans.append(Span(0, at, at + size, step, pinned=draw(st.integers(0, 9)) == 0))
        at += size
    return blocks_of(spans, [at], PAGE)


def in_one_step(blocks: tuple[Block, ...], plan: Plan) -> int:
    steps = {blocks[index].first for index in plan.streamed}
    return max((sum(blocks[i].bytes for i in plan.streamed if blocks[i].first == step) for step in steps), default=0)


@given(many_blocks())
def test_blocks_cover_every_span_once_and_are_aligned(blocks: tuple[Block, ...]) -> None:
    ordered = sorted(blocks, key=lambda block: block.start)
    assert all(left.end <= right.start for left, right in itertools.pairwise(ordered))
    assert all(block.start % PAGE == 0 and 0 < block.bytes <= PAGE for block in blocks)
    assert [block.first for block in blocks] == sorted(block.first for block in blocks)
    assert all(block.first <= block.last for block in blocks)


@given(many_blocks(), st.floats(0, 1.2), st.integers(1, 12))
def test_a_plan_accounts_for_every_byte_and_spares_what_is_pinned(
    blocks: tuple[Block, ...], share: float, window: int
) -> None:
    total = sum(block.bytes for block in blocks)
    plan = make_plan(blocks, int(share * total), window * PAGE)
    assert plan.kept_bytes + plan.streamed_bytes == total
    assert len(set(plan.streamed)) == len(plan.streamed)
    assert not any(blocks[index].pinned for index in plan.streamed)
    assert sum(blocks[index].bytes for index in plan.streamed) == plan.streamed_bytes


@given(many_blocks(), st.floats(0, 1.2), st.integers(1, 12))
def test_a_plan_needs_no_more_than_the_room_if_that_can_be_had(
    blocks: tuple[Block, ...], share: float, window: int
) -> None:
    total = sum(block.bytes for block in blocks)
    room = int(share * total)
    plan = make_plan(blocks, room, window * PAGE)
    everything = sum(block.bytes for block in blocks if not block.pinned)
    assert plan.needed <= room or plan.streamed_bytes == everything
    if total <= room:
        assert plan == Plan((), 0, total, 0)


@given(many_blocks(), st.floats(0, 1.2), st.integers(1, 12))
def test_the_window_holds_what_one_step_streams(blocks: tuple[Block, ...], share: float, window: int) -> None:
    plan = make_plan(blocks, int(share * sum(block.bytes for block in blocks)), window * PAGE)
    if plan.streamed_bytes < sum(block.bytes for block in blocks if not block.pinned):
        # Whole blocks, of which rounding may put one more into a step.
        assert in_one_step(blocks, plan) <= plan.window + 2 * PAGE


def test_equal_layers_stream_equally() -> None:
    blocks = blocks_of(
        [Span(0, step * 80 * PAGE, (step + 1) * 80 * PAGE, step) for step in range(10)], [800 * PAGE], PAGE
    )
    plan = make_plan(blocks, 600 * PAGE, 60 * PAGE)
    by_step = [sum(blocks[index].first == step for index in plan.streamed) for step in range(10)]
    assert plan.streamed_bytes == 260 * PAGE
    assert set(by_step) <= {25, 26, 27}


def test_a_window_grows_for_a_step_that_is_larger_than_it() -> None:
    blocks = blocks_of([Span(0, 0, 10 * PAGE, 0), Span(0, 10 * PAGE, 110 * PAGE, 1)], [110 * PAGE], PAGE)
    plan = make_plan(blocks, 50 * PAGE, 2 * PAGE)
    assert in_one_step(blocks, plan) <= plan.window
    assert plan.needed <= 50 * PAGE or plan.streamed_bytes == 110 * PAGE


def test_layout_of_a_model_follows_its_layers_and_reads_embeddings_by_rows() -> None:
    header = read_header(make_model(n_layer=3))
    found = layout((header,), frozenset(layer_of(tensor.name) for tensor in header.tensors), PAGE)
    assert found.steps == ("0", "1", "2", "output")
    (part, start, end), *rest = found.rows
    embedding = next(tensor for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert (part, start, end, rest) == (0, embedding.start, embedding.end, [])
    assert not any(block.pinned for block in found.blocks)
    weights = sum(tensor.bytes for tensor in header.tensors) - embedding.bytes
    assert weights <= found.bytes <= weights + 2 * PAGE


def test_tied_embeddings_are_kept() -> None:
    header = read_header(make_model(n_layer=2, tied=True))
    found = layout((header,), frozenset(layer_of(tensor.name) for tensor in header.tensors), PAGE)
    assert not found.rows
    embedding = next(tensor for tensor in header.tensors if tensor.name == "token_embd.weight")
    inside = [block for block in found.blocks if embedding.start <= block.start and block.end <= embedding.end]
    assert inside
    assert all(block.pinned for block in inside)


def test_layers_elsewhere_are_left_out() -> None:
    header = read_header(make_model(n_layer=3))
    found = layout((header,), frozenset({"1"}), PAGE)
    assert {block.first for block in found.blocks} == {1}
    assert not found.rows

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from tests.synthetic import make_model

from pagewise.models.gguf import GgufHeader, read_header
from pagewise.placement.plan import AHEAD, Block, Plan, Span, blocks_of, layout, make_plan, pages_of, read_ahead

PAGE = 4096


def names_of(header: GgufHeader) -> frozenset[str]:
    return frozenset(tensor.name for tensor in header.tensors)


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
    plan = make_plan(blocks, 600 * PAGE, 10 * PAGE)
    by_step = [sum(blocks[index].first == step for index in plan.streamed) for step in range(10)]
    assert max(by_step) - min(by_step) <= 1
    # The step in hand, what is read ahead, and a block for rounding.
    assert (max(by_step) + 10) * PAGE <= plan.window <= (max(by_step) + 12) * PAGE
    assert 200 * PAGE + plan.window <= plan.streamed_bytes <= 201 * PAGE + plan.window


def test_a_window_grows_for_a_step_that_is_larger_than_it() -> None:
    blocks = blocks_of([Span(0, 0, 10 * PAGE, 0), Span(0, 10 * PAGE, 110 * PAGE, 1)], [110 * PAGE], PAGE)
    plan = make_plan(blocks, 50 * PAGE, 2 * PAGE)
    assert in_one_step(blocks, plan) <= plan.window
    assert plan.needed <= 50 * PAGE or plan.streamed_bytes == 110 * PAGE


def test_layout_of_a_model_follows_its_layers_and_reads_embeddings_by_rows() -> None:
    header = read_header(make_model(n_layer=3))
    found = layout((header,), names_of(header), PAGE)
    assert found.steps == ("0", "1", "2", "output")
    (part, start, end), *rest = found.rows
    embedding = next(tensor for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert (part, start, end, rest) == (0, embedding.start, embedding.end, [])
    assert not any(block.pinned for block in found.blocks)
    weights = sum(tensor.bytes for tensor in header.tensors) - embedding.bytes
    assert weights <= found.bytes <= weights + 2 * PAGE


def test_tied_embeddings_are_kept() -> None:
    header = read_header(make_model(n_layer=2, tied=True))
    found = layout((header,), names_of(header), PAGE)
    assert not found.rows
    embedding = next(tensor for tensor in header.tensors if tensor.name == "token_embd.weight")
    inside = [block for block in found.blocks if embedding.start <= block.start and block.end <= embedding.end]
    assert inside
    assert all(block.pinned for block in inside)


def test_layers_elsewhere_are_left_out() -> None:
    header = read_header(make_model(n_layer=3))
    found = layout((header,), frozenset(name for name in names_of(header) if name.startswith("blk.1.")), PAGE)
    assert {block.first for block in found.blocks} == {1}
    assert not found.rows


def test_of_tied_embeddings_that_a_device_has_copied_only_rows_are_read() -> None:
    header = read_header(make_model(n_layer=2, tied=True))
    found = layout((header,), frozenset({"token_embd.weight", *(n for n in names_of(header) if "blk.0" in n)}), PAGE)
    assert len(found.rows) == 1


def test_read_ahead_holds_what_the_disk_brings_during_a_layer() -> None:
    assert read_ahead(None, 0.01) == AHEAD
    assert read_ahead(1e6, 0.01) == AHEAD
    assert read_ahead(4e9, 0.01) >= 40_000_000


def test_a_mixture_is_cut_into_what_every_token_needs_and_its_experts() -> None:
    header = read_header(make_model(n_layer=3, n_expert=4, n_embd=256, n_ff=512, weights="Q8_0"))
    found = layout((header,), names_of(header))
    assert found.experts is not None
    experts = [tensor for tensor in header.tensors if "_exps." in tensor.name]
    assert found.experts.tensors == {tensor.name for tensor in experts}
    assert found.experts.bytes == sum(tensor.bytes for tensor in experts)
    assert len(found.experts.slices) == 3 * 4
    pieces = sorted(piece for slices in found.experts.slices for piece in slices)
    assert all(left.end <= right.start for left, right in itertools.pairwise(pieces))
    assert sorted((t.start, t.bytes // 4) for t in experts) == [
        (piece.start, piece.end - piece.start) for piece in pieces[::4]
    ]
    # Every other byte, but for the rows of the embeddings, is in some block, and hardly any byte of an expert is.
    for tensor in header.tensors:
        if tensor.name in found.experts.tensors or tensor.name == "token_embd.weight":
            continue
        inside = sum(max(0, min(block.end, tensor.end) - max(block.start, tensor.start)) for block in found.blocks)
        assert inside == tensor.bytes
    rest = sum(t.bytes for t in header.tensors if t.name not in found.experts.tensors) - found.rows[0][2]
    assert found.dense_bytes <= rest + found.rows[0][2] + 2 * PAGE * len(header.tensors)


@given(st.lists(st.tuples(st.integers(0, 30 * PAGE), st.integers(1, 9 * PAGE)), min_size=1, max_size=12))
def test_pages_of_what_is_not_an_expert_are_in_one_block_each(places: list[tuple[int, int]]) -> None:
    spans, at = [], 0
    for step, (gap, size) in enumerate(places):
        spans.append(Span(0, at + gap, at + gap + size, step // 3))
        at += gap + size
    blocks = sorted(pages_of(spans, [at], 4 * PAGE), key=lambda block: block.start)
    assert all(left.end <= right.start for left, right in itertools.pairwise(blocks))
    assert all(block.start % PAGE == 0 and 0 < block.bytes <= 4 * PAGE for block in blocks)
    for span in spans:
        held = [block for block in blocks if block.start < span.end and span.start < block.end]
        assert sum(min(block.end, span.end) - max(block.start, span.start) for block in held) == span.end - span.start
        assert all(block.first <= span.step <= block.last for block in held)

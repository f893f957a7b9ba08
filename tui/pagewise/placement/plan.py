"""Which blocks of a model file stay in memory and which are streamed: read ahead of their layer, dropped behind it.

A decode step is a cyclic scan over the weights. Of such a scan the kernel's page cache keeps next to nothing as soon as
the file is a little too large, so the choice is made here: what fits is kept, the rest is streamed. The streamed blocks
are spread over all layers, so that the disk is busy while the kept ones are computed and a small window is enough.

Of a mixture of experts the blocks are what every token needs; its experts are another matter (``experts.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pagewise.models.gguf import GgufHeader, Tensor
from pagewise.models.layers import INPUT, OUTPUT, layer_of, layer_order
from pagewise.placement.expert_layout import ExpertLayout, expert_layout
from pagewise.placement.pages import GRANULE, PAGE

AHEAD = 8 * 1024 * 1024
"""Streamed bytes that are read ahead of the layer in hand, at least: one granule for each reader."""
_JITTER_S = 0.002
"""A read that comes this late must not hold up the layer that waits for it."""


class Span(NamedTuple):
    """Bytes ``start`` to ``end`` of one part of the model file, and the step that needs them."""

    part: int
    start: int
    end: int
    step: int
    pinned: bool = False


class Block(NamedTuple):
    """At most a granule of one part. Steps ``first`` to ``last`` need it; a pinned one is never streamed."""

    part: int
    start: int
    end: int
    first: int
    last: int
    pinned: bool

    @property
    def bytes(self) -> int:
        return self.end - self.start


class Layout(NamedTuple):
    """A model file as a decode step reads it: names of the steps, blocks in their order, ranges read by rows."""

    steps: tuple[str, ...]
    blocks: tuple[Block, ...]
    """What every token needs."""
    rows: tuple[tuple[int, int, int], ...]
    """(part, start, end) of embeddings: a token reads a row of them, no more."""
    experts: ExpertLayout | None = None

    @property
    def dense_bytes(self) -> int:
        """Bytes that every token needs."""
        return sum(block.bytes for block in self.blocks)

    @property
    def bytes(self) -> int:
        """Bytes that some token needs."""
        return self.dense_bytes + (self.experts.bytes if self.experts is not None else 0)


class Plan(NamedTuple):
    """``streamed`` blocks by index, in their order; all others are kept."""

    streamed: tuple[int, ...]
    streamed_bytes: int
    kept_bytes: int
    window: int

    @property
    def needed(self) -> int:
        """Bytes of memory that this plan takes."""
        return self.kept_bytes + min(self.window, self.streamed_bytes)


def layout(headers: Sequence[GgufHeader], mapped: frozenset[str], granule: int = GRANULE) -> Layout:
    """The blocks of the ``mapped`` tensors of a model."""
    tensors = [(part, tensor) for part, header in enumerate(headers) for tensor in header.tensors]
    # Of tied embeddings a device that holds the output has its own copy.
    tied = not any(tensor.name == "output.weight" for _, tensor in tensors) and any(
        tensor.name in mapped for _, tensor in tensors if layer_of(tensor.name) == OUTPUT
    )
    names = {layer_of(tensor.name) for _, tensor in tensors} | {OUTPUT}
    steps = tuple(sorted(names - {INPUT}, key=layer_order))
    index = {name: number for number, name in enumerate(steps)}
    tensors = [(part, tensor) for part, tensor in tensors if tensor.name in mapped]
    experts = expert_layout(tensors, headers[0].number("expert_count") or 0)
    of_experts = experts.tensors if experts is not None else frozenset()
    spans: list[Span] = []
    rows: list[tuple[int, int, int]] = []
    for part, tensor in tensors:
        name = layer_of(tensor.name)
        if tensor.name in of_experts:
            continue
        if name != INPUT:
            spans.append(Span(part, tensor.start, tensor.end, index[name]))
        elif _read_by_rows(tensor) and not (tied and tensor.name == "token_embd.weight"):
            rows.append((part, tensor.start, tensor.end))
        else:
            # Tied embeddings are read whole at the end and by rows at the beginning; small tensors, by every layer.
            spans.append(Span(part, tensor.start, tensor.end, index[OUTPUT], pinned=True))
    part_bytes = [header.file_bytes for header in headers]
    blocks = blocks_of(spans, part_bytes, granule) if experts is None else pages_of(spans, part_bytes, granule)
    return Layout(steps, blocks, tuple(rows), experts)


def _read_by_rows(tensor: Tensor) -> bool:
    return tensor.name.endswith("token_embd.weight")


def blocks_of(spans: Iterable[Span], part_bytes: Sequence[int], granule: int) -> tuple[Block, ...]:
    """Every granule that a span touches, in the order in which steps need them."""
    found: dict[tuple[int, int], Block] = {}
    for span in spans:
        for number in range(span.start // granule, -(-span.end // granule)):
            start = number * granule
            end = min(start + granule, part_bytes[span.part])
            block = found.get((span.part, number), Block(span.part, start, end, span.step, span.step, False))
            first, last = min(block.first, span.step), max(block.last, span.step)
            pinned = block.pinned or span.pinned or last - first > 1
            found[span.part, number] = block._replace(first=first, last=last, pinned=pinned)
    return tuple(sorted(found.values(), key=_by_step))


def pages_of(spans: Iterable[Span], part_bytes: Sequence[int], granule: int) -> tuple[Block, ...]:
    """The pages of each span, cut where a granule ends: what lies beside them in a granule is an expert's."""
    blocks: list[Block] = []
    last: Span | None = None
    for span in sorted(spans):
        low, high = span.start // PAGE * PAGE, min(-(-span.end // PAGE) * PAGE, part_bytes[span.part])
        if last is not None and last.part == span.part and blocks and low < blocks[-1].end:
            # The page that two spans share goes with the first; two steps need it then.
            before = blocks[-1]
            far = span.step - before.first
            blocks[-1] = before._replace(
                first=min(before.first, span.step),
                last=max(before.last, span.step),
                pinned=before.pinned or span.pinned or not -1 <= far <= 1,
            )
            low = before.end
        while low < high:
            end = min(high, (low // granule + 1) * granule)
            blocks.append(Block(span.part, low, end, span.step, span.step, span.pinned))
            low = end
        last = span
    return tuple(sorted(blocks, key=_by_step))


def _by_step(block: Block) -> tuple[int, int, int]:
    return block.first, block.part, block.start


def read_ahead(bandwidth: float | None, layer_s: float | None) -> int:
    """Bytes to have in hand beside those of the layer that is computed.

    The disk must not stand still while a layer is computed (in ``layer_s``), so that what it delivers meanwhile has to
    find room; more than that only takes room from what is kept.
    """
    if bandwidth is None or layer_s is None:
        return AHEAD
    return max(AHEAD, int(bandwidth * (layer_s + _JITTER_S)))


def make_plan(blocks: Sequence[Block], room: int, ahead: int = AHEAD) -> Plan:
    """Keep as much as ``room`` bytes hold beside the window. All is kept if all fits.

    Of every step as many bytes are streamed as of any other, as far as it has them: then the window, which holds those
    of the step in hand and ``ahead`` bytes, is as small as it can be.
    """
    total = sum(block.bytes for block in blocks)
    missing = total - room
    if missing <= 0:
        return Plan((), 0, total, 0)
    by_step: dict[int, list[int]] = {}
    for index, block in enumerate(blocks):
        if not block.pinned:
            by_step.setdefault(block.first, []).append(index)
    sizes = {step: sum(blocks[index].bytes for index in members) for step, members in by_step.items()}
    largest = max((block.bytes for block in blocks), default=0)
    share = _share(list(sizes.values()), missing + ahead + largest)
    # Whole blocks: of one step there may be one more than its share.
    window = share + largest + ahead
    wanted = min(missing + window, sum(sizes.values()))
    chosen = _chosen(blocks, by_step, share, wanted)
    streamed = sum(blocks[index].bytes for index in chosen)
    return Plan(tuple(chosen), streamed, total - streamed, window)


def _share(sizes: Sequence[int], least: int) -> int:
    """The smallest number of bytes to stream of every step that gives ``least`` bytes and room for one step more."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        middle = (low + high) // 2
        if sum(min(size, middle) for size in sizes) - middle >= least:
            high = middle
        else:
            low = middle + 1
    return low


def _chosen(blocks: Sequence[Block], by_step: dict[int, list[int]], share: int, wanted: int) -> list[int]:
    """Whole blocks for the share, the first of each step; what rounding takes from one step, the next one gives."""
    chosen: list[int] = []
    taken, due = 0, 0.0
    # All of the shares together may be more than is wanted.
    shares = {step: min(sum(blocks[index].bytes for index in members), share) for step, members in by_step.items()}
    scale = min(1.0, wanted / max(1, sum(shares.values())))
    for step, members in sorted(by_step.items()):
        due += shares[step] * scale
        for index in members:
            if taken >= min(due, wanted):
                break
            chosen.append(index)
            taken += blocks[index].bytes
    if taken < wanted:
        left = set(range(len(blocks))) - set(chosen)
        for index in sorted(index for index in left if not blocks[index].pinned):
            if taken >= wanted:
                break
            chosen.append(index)
            taken += blocks[index].bytes
    return sorted(chosen)

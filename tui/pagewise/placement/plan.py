"""Which blocks of a model file stay in memory and which are streamed: read ahead of their layer, dropped behind it.

A decode step is a cyclic scan over the weights. Of such a scan the kernel's page cache keeps next to nothing as soon as
the file is a little too large, so the choice is made here: what fits is kept, the rest is streamed. The streamed blocks
are spread over all layers, so that the disk is busy while the kept ones are computed and a small window is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pagewise.models.gguf import GgufHeader, Tensor
from pagewise.models.layers import INPUT, OUTPUT, layer_of, layer_order

GRANULE = 2 * 1024 * 1024
"""Blocks are aligned to this in the file: the largest folio of the page cache, which can only be dropped as a whole."""
WINDOW = 16 * 1024 * 1024
"""Streamed bytes that are in memory at one time, at least."""
_WINDOW_SHARE = 0.1
"""Of the bytes that do not fit: with it, a tenth more than these is read."""
_GROWTH = 1.25


class Span(NamedTuple):
    """Bytes ``start`` to ``end`` of one part of the model file, and the step that needs them."""

    part: int
    start: int
    end: int
    step: int
    pinned: bool = False


class Block(NamedTuple):
    """A granule of one part of the file. Steps ``first`` to ``last`` need it; a pinned one is never streamed."""

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
    rows: tuple[tuple[int, int, int], ...]
    """(part, start, end) of embeddings: a token reads a row of them, no more."""

    @property
    def bytes(self) -> int:
        """Bytes that every token needs."""
        return sum(block.bytes for block in self.blocks)


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
    """The blocks of the ``mapped`` layers of a dense model."""
    tensors = [(part, tensor) for part, header in enumerate(headers) for tensor in header.tensors]
    tied = not any(tensor.name == "output.weight" for _, tensor in tensors)
    names = {layer_of(tensor.name) for _, tensor in tensors} | {OUTPUT}
    steps = tuple(sorted(names - {INPUT}, key=layer_order))
    index = {name: number for number, name in enumerate(steps)}
    spans: list[Span] = []
    rows: list[tuple[int, int, int]] = []
    for part, tensor in tensors:
        name = layer_of(tensor.name)
        if name not in mapped:
            continue
        if name != INPUT:
            spans.append(Span(part, tensor.start, tensor.end, index[name]))
        elif _read_by_rows(tensor) and not (tied and tensor.name == "token_embd.weight"):
            rows.append((part, tensor.start, tensor.end))
        else:
            # Tied embeddings are read whole at the end and by rows at the beginning; small tensors, by every layer.
            spans.append(Span(part, tensor.start, tensor.end, index[OUTPUT], pinned=True))
    return Layout(steps, blocks_of(spans, [header.file_bytes for header in headers], granule), tuple(rows))


def _read_by_rows(tensor: Tensor) -> bool:
    return tensor.name.endswith("token_embd.weight")


def blocks_of(spans: Sequence[Span], part_bytes: Sequence[int], granule: int) -> tuple[Block, ...]:
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
    return tuple(sorted(found.values(), key=lambda block: (block.first, block.part, block.start)))


def make_plan(blocks: Sequence[Block], room: int, window: int = WINDOW) -> Plan:
    """Keep as much as ``room`` bytes hold beside the window. All is kept if all fits."""
    total = sum(block.bytes for block in blocks)
    missing = total - room
    if missing <= 0:
        return Plan((), 0, total, 0)
    streamable = sum(block.bytes for block in blocks if not block.pinned)
    by_step: dict[int, list[int]] = {}
    for index, block in enumerate(blocks):
        if not block.pinned:
            by_step.setdefault(block.first, []).append(index)
    sizes = {step: sum(blocks[index].bytes for index in members) for step, members in by_step.items()}
    window = max(window, int(_WINDOW_SHARE * missing))
    while True:
        wanted = min(missing + window, streamable)
        # Two steps have to find room in the window: the one that is computed and the next.
        shares = _shares(sizes, wanted, window // 2)
        if shares is not None:
            break
        window = int(window * _GROWTH) + 1
    chosen = _chosen(blocks, by_step, shares, wanted)
    streamed = sum(blocks[index].bytes for index in chosen)
    return Plan(tuple(chosen), streamed, total - streamed, window)


def _shares(sizes: dict[int, int], wanted: int, cap: int) -> dict[int, float] | None:
    """Bytes to stream of each step: the same share of all, but no more than ``cap``. None if that is not enough."""
    if sum(min(size, cap) for size in sizes.values()) < wanted:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if sum(min(size * middle, cap) for size in sizes.values()) < wanted:
            low = middle
        else:
            high = middle
    return {step: min(size * high, cap) for step, size in sizes.items()}


def _chosen(blocks: Sequence[Block], by_step: dict[int, list[int]], shares: dict[int, float], wanted: int) -> list[int]:
    """Whole blocks for the shares, the first of each step; what rounding takes from one step, the next one gives."""
    chosen: list[int] = []
    taken, due = 0, 0.0
    for step, members in sorted(by_step.items()):
        due += shares[step]
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

"""What is told of a model that is streamed: bytes, layers, and the curve of decode rate against memory."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from pagewise.engine.in_hand import InHand
from pagewise.placement.curve import curve
from pagewise.placement.plan import Layout, Plan, read_ahead
from pagewise.readings import CurvePoint, StreamedLayer, Streaming


class Measured(NamedTuple):
    """Figures that come from the evaluations themselves, in seconds, and room for the file in bytes."""

    room: int
    token_s: float | None
    waited_s: float | None
    disk_bytes_s: float | None
    """From the load, where nothing has been streamed yet."""


class Sizes:
    """Bytes of a layout, added up once."""

    def __init__(self, layers: Layout) -> None:
        self.layout = layers
        self.dense = layers.dense_bytes
        self.experts = layers.experts.bytes if layers.experts is not None else 0
        self.of_layers: Counter[str] = Counter()
        self.dense_of_layers: Counter[str] = Counter()
        for block in layers.blocks:
            self.dense_of_layers[layers.steps[block.first]] += block.bytes
        self.of_layers.update(self.dense_of_layers)
        if layers.experts is not None:
            for number, slices in enumerate(layers.experts.slices):
                name = layers.experts.layers[number // layers.experts.n_expert]
                self.of_layers[name] += sum(piece.end - piece.start for piece in slices)

    @property
    def total(self) -> int:
        """All that some token needs."""
        return self.dense + self.experts

    def kept_and_streamed(self, hand: InHand | None) -> tuple[int, int]:
        """Bytes that are kept, and that are not."""
        if hand is None:
            return self.total, 0
        plan = hand.streamer.plan
        kept = self.experts if hand.experts is None else min(self.experts, hand.experts.room)
        return plan.kept_bytes + kept, plan.streamed_bytes + self.experts - kept


def reading(sizes: Sizes, hand: InHand | None, measured: Measured, n_used: int, *, locked: bool) -> Streaming:
    """Everything, now."""
    kept, streamed = sizes.kept_and_streamed(hand)
    plan = hand.streamer.plan if hand is not None else Plan((), 0, sizes.dense, 0)
    bandwidth = (hand.readers.bandwidth if hand is not None else None) or measured.disk_bytes_s
    inside = hand.streamer.inside() if hand is not None else set()
    return Streaming(
        kept_bytes=kept,
        streamed_bytes=streamed,
        window_bytes=plan.window,
        room_bytes=measured.room,
        needed_bytes=sizes.total,
        layers=_layers(sizes, hand, plan),
        ahead=tuple(sizes.layout.steps[step] for step in sorted(inside)),
        bandwidth_bytes_s=bandwidth,
        token_ms=None if measured.token_s is None else 1000 * measured.token_s,
        waited_ms=None if measured.waited_s is None else 1000 * measured.waited_s,
        missed_pct=hand.missed_pct if hand is not None else None,
        curve=_curve(sizes, hand, measured, bandwidth, plan.window, n_used),
        locked=locked and hand is not None and hand.locked,
    )


def _layers(sizes: Sizes, hand: InHand | None, plan: Plan) -> tuple[StreamedLayer, ...]:
    """What is kept of each layer; of a layer of which experts come and go, what is there now."""
    steps, blocks = sizes.layout.steps, sizes.layout.blocks
    kept = Counter(sizes.of_layers)
    for index in plan.streamed:
        kept[steps[blocks[index].first]] -= blocks[index].bytes
    if hand is not None and hand.experts is not None:
        for name, here in hand.experts.kept_of_layers().items():
            kept[name] -= sizes.of_layers[name] - sizes.dense_of_layers[name] - here
    return tuple(StreamedLayer(name, sizes.of_layers[name], kept[name]) for name in steps if sizes.of_layers[name])


def _curve(
    sizes: Sizes, hand: InHand | None, measured: Measured, bandwidth: float | None, window: int, n_used: int
) -> tuple[CurvePoint, ...]:
    if measured.token_s is None or measured.waited_s is None or bandwidth is None:
        return ()
    experts = sizes.layout.experts
    share = min(1.0, n_used / experts.n_expert) if experts is not None else 0.0

    misses = hand.experts.misses() if hand is not None and hand.experts is not None else None

    def missed_at(room: int) -> float:
        return misses.at(room) if misses is not None else max(0, sizes.experts - room) * share

    compute_s = max(0.0, measured.token_s - measured.waited_s)
    window = window or read_ahead(bandwidth, None)
    points = curve(compute_s, bandwidth, sizes.dense, sizes.experts, window, missed_at)
    return tuple(CurvePoint(point.memory_bytes, 1000 * point.token_s) for point in points)

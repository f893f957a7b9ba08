"""What of a model larger than memory is kept, and what is streamed."""

from __future__ import annotations

from msgspec import Struct


class StreamedLayer(Struct, frozen=True, array_like=True):
    """What of one layer's mapped weights stays in memory; ``kept_bytes`` of ``bytes``."""

    name: str
    bytes: int
    kept_bytes: int
    """Of a mixture also the experts that are there now."""


class CurvePoint(Struct, frozen=True, array_like=True):
    """With ``memory_bytes`` for the file a token is predicted to take ``token_ms``."""

    memory_bytes: int
    token_ms: float


class Streaming(Struct, frozen=True):
    """What of the mapped weights stays in memory, and what is read again because it does not fit."""

    kept_bytes: int
    streamed_bytes: int
    """0: all of it stays."""
    window_bytes: int
    """Room for what is streamed: the layer in hand, and what is read ahead of it."""
    room_bytes: int
    """What the file may have of memory, as it was measured last."""
    needed_bytes: int
    """What the file needs to stay whole."""
    layers: tuple[StreamedLayer, ...]
    ahead: tuple[str, ...]
    """Layers of which streamed weights were in memory, or on their way, at this moment."""
    bandwidth_bytes_s: float | None
    """Of the disk while it was read from; None before it was."""
    token_ms: float | None
    """Inside llama.cpp, over the last tokens."""
    waited_ms: float | None
    """The part of it that the disk was waited for."""
    missed_pct: float | None
    """Of the experts that routers chose, those that were not in memory; None: no mixture, or none chosen yet."""
    curve: tuple[CurvePoint, ...]
    """The time of a token against memory, from the figures above; empty while they are not known."""
    locked: bool = False
    """Whether what is kept is locked in memory."""

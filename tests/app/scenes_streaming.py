"""A model larger than memory, as the engine tells of it."""

from __future__ import annotations

from pagewise.readings import CurvePoint, StreamedLayer, Streaming

MIB = 1024**2
GIB = 1024**3
LAYER = 150 * MIB


def streaming(kept: float = 0.7, **changes: object) -> Streaming:
    """Of each of 28 layers ``kept``; the token waits most of its time."""
    needed = 28 * LAYER
    curve = tuple(
        CurvePoint(int(needed * share / 100), max(40.0, (needed * (1 - share / 100) + 50 * MIB) / 2e6))
        for share in range(10, 115, 5)
    )
    values: dict[str, object] = {
        "kept_bytes": int(needed * kept),
        "streamed_bytes": needed - int(needed * kept),
        "window_bytes": 60 * MIB,
        "room_bytes": int(needed * kept) + 60 * MIB,
        "needed_bytes": needed,
        "layers": tuple(StreamedLayer(str(layer), LAYER, int(LAYER * kept)) for layer in range(28)),
        "ahead": ("4", "5"),
        "bandwidth_bytes_s": 2e9,
        "token_ms": 700.0,
        "waited_ms": 640.0,
        "missed_pct": None,
        "curve": curve,
    }
    return Streaming(**(values | changes))  # type: ignore[arg-type]

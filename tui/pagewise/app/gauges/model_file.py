"""MODEL FILE: which layers of the file are in RAM at this moment, one cell a layer."""

from __future__ import annotations

from pagewise.app.figures import duration, percent, rate, share, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import merged
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, ends
from pagewise.app.visible import visible_line
from pagewise.readings import LayerResidency, Residency, Streaming

_CELLS = {
    "RAM": ("■", "accent"),
    "kept": ("■", "accent"),
    "streaming": ("▤", "accent"),
    "read ahead": ("▦", "strong accent"),
    "partly": ("◧", "accent"),
    "disk": ("□", "muted"),
    "reclaimed": ("◌", "warn"),
    "VRAM": ("G", "text"),
    "copied": ("C", "text"),
    "unknown": ("?", "muted"),
}


_WHOLE = 0.98


def cell(layer: LayerResidency, streaming: Streaming | None = None) -> str:
    """In which state of ``_CELLS`` a layer is. ``streaming``: what the engine says of it, where layers are streamed."""
    state = _cached(layer)
    if streaming is None or not streaming.streamed_bytes or layer.where == "device":
        return state
    told = next((one for one in streaming.layers if one.name == layer.name), None)
    if told is None or not told.bytes:
        return state
    if told.kept_bytes < _WHOLE * told.bytes:
        return "read ahead" if layer.name in streaming.ahead else "streaming"
    return "kept" if state in ("RAM", "partly") else state


def _cached(layer: LayerResidency) -> str:
    if layer.where == "device":
        return "VRAM"
    if layer.where == "copied":
        return "copied"
    if layer.cached_bytes is None or layer.bytes <= 0:
        return "unknown"
    cached = layer.cached_bytes / layer.bytes
    if cached >= _WHOLE:
        return "RAM"
    if layer.reclaimed_bytes and layer.reclaimed_bytes / layer.bytes >= 0.02:
        return "reclaimed"
    return "partly" if cached >= 0.02 else "disk"


def resident_share(residency: Residency) -> float | None:
    """Share of the file in RAM, in per cent."""
    return share(residency.file_cached_bytes, residency.file_bytes)


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    residency = readout.snapshot.residency if readout.snapshot else None
    if residency is None:
        detail = size(readout.model.file_bytes) if readout.model else ""
        return [title("MODEL FILE", detail, figure("n/a"), width), quiet("no model file is mapped yet", width)]
    word = "in RAM" if residency.meaning == "cached" else "mapped"
    right: tuple[Span, ...] = (*figure(percent(resident_share(residency))), (f" {word}", "muted"))
    lines = [title("MODEL FILE", size(residency.file_bytes), right, width)]
    states = [cell(layer, readout.streaming) for layer in residency.layers]
    if not states:
        lines.append(quiet(_why(residency) or "its layers are not known yet", width))
        return lines
    cells = [_CELLS[state] for state in states]
    lines += [merged(cells[start : start + width]) for start in range(0, len(cells), width)]
    lines += [ends(_legend(states), (), width)] if rows > 0 else []
    return lines


def _legend(states: list[str]) -> Line:
    spans: list[Span] = []
    for name, (glyph, role) in _CELLS.items():
        if name in states:
            spans += [("  " if spans else "", "text"), (glyph, role), (f" {name}", "muted")]
    return tuple(span for span in spans if span[0])


def _why(residency: Residency) -> str:
    return "; ".join(visible_line(missing.why) for missing in residency.missing)


def _state(readout: Readout) -> list[str]:
    residency = readout.snapshot.residency if readout.snapshot else None
    if residency is None:
        return ["Nothing is shown: no model file is mapped by the engine, or no reading has arrived yet."]
    lines = [
        f"{visible_line(residency.path)}: {size(residency.file_bytes)}, "
        f"{percent(resident_share(residency))} {residency.meaning}, read with {residency.method} "
        f"in {residency.cost_ms:.1f} ms.",
    ]
    counts: dict[str, list[str]] = {}
    for layer in residency.layers:
        counts.setdefault(cell(layer, readout.streaming), []).append(layer.name)
    lines += [f"{name}: {len(names)} of {len(residency.layers)} layers." for name, names in counts.items()]
    lines += _streamed(readout.streaming)
    oldest = max((layer.age_s for layer in residency.layers), default=0.0)
    if oldest > 2:
        lines.append(f"The layers are read in turn; the oldest cell is {oldest:.0f} s old.")
    return lines + [f"{missing.metric} is n/a: {visible_line(missing.why)}" for missing in residency.missing]


def _streamed(streaming: Streaming | None) -> list[str]:
    if streaming is None or not streaming.streamed_bytes:
        return []
    lines = [
        f"The file is larger than the {size(streaming.room_bytes)} it can have: {size(streaming.kept_bytes)} stay, "
        f"{size(streaming.streamed_bytes)} are streamed through a window of {size(streaming.window_bytes)}."
    ]
    if streaming.missed_pct is not None:
        lines.append(f"Of the experts that were chosen {percent(streaming.missed_pct)} were not in memory.")
    if streaming.waited_ms is not None:
        lines.append(f"A token waits {duration(streaming.waited_ms)} of {duration(streaming.token_ms)} for the disk.")
    if streaming.bandwidth_bytes_s is not None:
        lines.append(f"The disk gives {rate(streaming.bandwidth_bytes_s)} while it is read from.")
    if streaming.locked:
        lines.append("What is kept is locked in memory.")
    return [*lines, "c shows what more or less memory would do."]


GAUGE = Gauge(
    name="MODEL FILE",
    draw=_draw,
    what="How much of the model file is in RAM, and which layers: one cell a layer, the input first and the output "
    "last. ■ in RAM, ◧ partly, □ not cached (on disk only), ◌ the kernel took it back, G in a GPU's memory, C copied "
    "into private memory. Of a file larger than memory: ■ kept, ▤ streaming (a part of the layer is read again for "
    "every token), ▦ of which that part is read ahead at this moment.",
    unit="per cent of the file's bytes; one cell is one layer",
    source="The kernel's page cache, asked with cachestat (or, where that is missing, pagemap or mincore) for the byte "
    "ranges of each layer that the file's header gives.",
    how="□ is normal before a layer's first use. ◌ means memory was short and the layer will be read again: a smaller "
    "quant, or fewer other programs, helps. c opens the curve of decode rate against memory.",
    state=_state,
)

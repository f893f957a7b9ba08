"""MODEL FILE: which layers of the file are in RAM at this moment, one cell a layer."""

from __future__ import annotations

from pagewise.app.figures import percent, share, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import merged
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, ends
from pagewise.app.visible import visible_line
from pagewise.readings import LayerResidency, Residency

_CELLS = {
    "RAM": ("■", "accent"),
    "partly": ("◧", "accent"),
    "disk": ("□", "muted"),
    "reclaimed": ("◌", "warn"),
    "VRAM": ("G", "text"),
    "copied": ("C", "text"),
    "unknown": ("?", "muted"),
}


def cell(layer: LayerResidency) -> str:
    """In which state of ``_CELLS`` a layer is."""
    if layer.where == "device":
        return "VRAM"
    if layer.where == "copied":
        return "copied"
    if layer.cached_bytes is None or layer.bytes <= 0:
        return "unknown"
    cached = layer.cached_bytes / layer.bytes
    if cached >= 0.98:
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
    states = [cell(layer) for layer in residency.layers]
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
        counts.setdefault(cell(layer), []).append(layer.name)
    lines += [f"{name}: {len(names)} of {len(residency.layers)} layers." for name, names in counts.items()]
    oldest = max((layer.age_s for layer in residency.layers), default=0.0)
    if oldest > 2:
        lines.append(f"The layers are read in turn; the oldest cell is {oldest:.0f} s old.")
    return lines + [f"{missing.metric} is n/a: {visible_line(missing.why)}" for missing in residency.missing]


GAUGE = Gauge(
    name="MODEL FILE",
    draw=_draw,
    what="How much of the model file is in RAM, and which layers: one cell a layer, the input first and the output "
    "last. ■ in RAM, ◧ partly, □ not cached (on disk only), ◌ the kernel took it back, G in a GPU's memory, C copied "
    "into private memory.",
    unit="per cent of the file's bytes; one cell is one layer",
    source="The kernel's page cache, asked with cachestat (or, where that is missing, pagemap or mincore) for the byte "
    "ranges of each layer that the file's header gives.",
    how="□ is normal before a layer's first use. ◌ means memory was short and the layer will be read again: a smaller "
    "quant, or fewer other programs, helps.",
    state=_state,
)

"""VRAM: what lies in each accelerator's memory, and whose it is."""

from __future__ import annotations

import re

from pagewise.app.figures import gib, of_size, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import stacked
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, wrap
from pagewise.app.visible import visible_line
from pagewise.readings import DeviceMemory

_GLYPHS = {
    "weights": ("█", "accent"),
    "KV": ("▓", "accent"),
    "compute": ("▒", "accent"),
    "driver": ("░", "accent"),
    "other": ("▒", "muted"),
    "ours": ("█", "accent"),
}
"""Kinds of bytes on a device: the glyph tells them apart without colour."""


def kinds(readout: Readout, device: DeviceMemory) -> dict[str, int]:
    """Bytes on this device by kind. ``driver`` is what is ours and not llama.cpp's; ``other`` what is not ours.

    ``ours`` without kinds while no model is known.
    """
    parts = dict.fromkeys(_GLYPHS, 0)
    names = {"weights": "weights", "kv": "KV", "compute": "compute", "output": "compute"}
    for buffer in readout.model.buffers if readout.model else ():
        if _index_of(buffer.device) == device.index and not buffer.device.startswith("CPU"):
            parts[names[buffer.kind]] += buffer.bytes
    known = sum(parts.values())
    if readout.model is None and device.ours_bytes is not None and device.used_bytes is not None:
        return {"ours": device.ours_bytes, "other": max(device.used_bytes - device.ours_bytes, 0)}
    if device.used_bytes is not None:
        ours = device.ours_bytes
        if ours is not None:
            parts["driver"] = max(ours - known, 0)
        parts["other"] = max(device.used_bytes - max(ours or 0, known), 0)
    return {name: value for name, value in parts.items() if value}


def _index_of(device: str) -> int | None:
    digits = re.search(r"(\d+)$", device)
    return int(digits.group(1)) if digits else None


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    snapshot = readout.snapshot
    if snapshot is None:
        return [title("VRAM", "", figure("n/a"), width), quiet("waiting for the first reading", width)]
    devices = snapshot.devices.devices
    if not devices:
        why = visible_line(snapshot.devices.why_none or "no reason was given")
        return [title("VRAM", "", (("none", "muted"),), width), *wrap(((why, "muted"),), width)[:2]]
    lines: list[Line] = []
    for device in devices:
        used = (
            figure(of_size(device.used_bytes, device.total_bytes)) if device.used_bytes is not None else figure("n/a")
        )
        lines.append(title("VRAM" if not lines else "    ", visible_line(device.name), used, width))
        parts = kinds(readout, device)
        if not device.total_bytes or device.used_bytes is None:
            lines.append(quiet(_missing(device) or "the driver does not say", width))
            continue
        lines.append(stacked([(value / device.total_bytes, *_GLYPHS[name]) for name, value in parts.items()], width))
        if len(devices) == 1:
            lines += _legend(parts, width)[: max(rows, 1)]
    return lines


def _legend(parts: dict[str, int], width: int) -> list[Line]:
    lines: list[Line] = []
    current: list[Span] = []
    used = 0
    for name, value in parts.items():
        glyph, role = _GLYPHS[name]
        figures = gib(value) if value >= 50 * 1024**2 else "<0.1"
        length = 3 + len(name) + len(figures)
        if current and used + 2 + length > width:
            lines.append(tuple(current))
            current, used = [], 0
        if current:
            current.append(("  ", "text"))
            used += 2
        current += [(glyph, role), (f" {name} ", "muted"), (figures, "text")]
        used += length
    return [*lines, tuple(current)] if current else lines


def _missing(device: DeviceMemory) -> str:
    return "; ".join(visible_line(missing.why) for missing in device.missing)


def _state(readout: Readout) -> list[str]:
    snapshot = readout.snapshot
    if snapshot is None:
        return ["No reading has arrived yet."]
    if not snapshot.devices.devices:
        return [f"None: {visible_line(snapshot.devices.why_none or 'no reason was given')}"]
    lines = []
    for device in snapshot.devices.devices:
        lines.append(
            f"{visible_line(device.name)}: {of_size(device.used_bytes, device.total_bytes)} used, "
            f"ours {size(device.ours_bytes)}{' (estimate)' if device.ours_is_estimate else ''}, by {device.source}."
        )
        parts = kinds(readout, device)
        if parts:
            lines.append(", ".join(f"{name} {size(value)}" for name, value in parts.items()) + ".")
        lines += [f"{missing.metric} is n/a: {visible_line(missing.why)}" for missing in device.missing]
    return lines


GAUGE = Gauge(
    name="VRAM",
    draw=_draw,
    what="Memory of each GPU: how much is used, and for what: weights, KV cache, llama.cpp's compute buffers, what the "
    "driver takes for us, and what other programs hold.",
    unit="GiB (1024³ bytes), as nvidia-smi counts them",
    source="Used and total from the GPU's driver (NVML, or sysfs); weights, KV and compute from llama.cpp's own "
    "buffers; driver is what is ours beyond those; other is the rest.",
    how="Where other is large, another program takes the room. Free room can hold more layers: raise n_gpu_layers.",
    state=_state,
)

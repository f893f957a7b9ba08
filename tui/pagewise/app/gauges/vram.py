"""VRAM: what lies in each accelerator's memory, and whose it is."""

from __future__ import annotations

from pagewise.app.figures import gib, of_size, percent, rate, share, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import stacked
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, clip, ends, line, width_of, wrap
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
_WORK, _WHOLE_LEGEND, _ALL_OF_IT = 2, 3, 4
"""The levels from which on a first line of what the device does is shown, the whole legend, and everything."""


def kinds(readout: Readout, device: DeviceMemory) -> dict[str, int]:
    """Bytes on this device by kind. ``driver`` is what is ours and not llama.cpp's; ``other`` what is not ours.

    ``ours`` without kinds while no model is known.
    """
    parts = dict.fromkeys(_GLYPHS, 0)
    names = {"weights": "weights", "kv": "KV", "compute": "compute", "output": "compute"}
    for buffer in readout.model.buffers if readout.model else ():
        if device.is_called(buffer.device):
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
        left: list[Span] = [("VRAM" if not lines else "    ", "label")]
        if device.held_back and rows < _ALL_OF_IT:
            left.append(("  ▲ held back", "warn"))
        lines.append(ends((*left, (f"  {visible_line(device.name)}", "muted")), used, width))
        parts = kinds(readout, device)
        if not device.total_bytes or device.used_bytes is None:
            lines.append(quiet(_missing(device) or "the driver does not say", width))
            continue
        lines.append(stacked([(value / device.total_bytes, *_GLYPHS[name]) for name, value in parts.items()], width))
        if len(devices) == 1:
            legend = _legend(parts, width)
            lines += legend if rows >= _WHOLE_LEGEND else legend[:1]
        if rows >= _WORK:
            work = draw_work(device, width)
            lines += work if rows >= _ALL_OF_IT else work[:1]
    return lines


def _legend(parts: dict[str, int], width: int) -> list[Line]:
    entries: list[Line] = []
    for name, value in parts.items():
        glyph, role = _GLYPHS[name]
        figures = gib(value) if value >= 50 * 1024**2 else "<0.1"
        entries.append(line((glyph, role), (f" {name} ", "muted"), figures))
    return _packed(entries, width)


def draw_work(device: DeviceMemory, width: int) -> list[Line]:
    """What the device does: how busy it is, what it draws, what its memory and its link move; only what it tells.

    Last, and only then, why its clocks are held back.
    """
    parts: list[Line] = []
    if device.utilization_pct is not None:
        parts.append(line(("busy ", "muted"), percent(device.utilization_pct)))
    if device.power_w is not None:
        parts.append(line(f"{device.power_w:.0f} W"))
    if device.temperature_c is not None:
        parts.append(line(f"{device.temperature_c:.0f} °C"))
    if device.dram_bytes_s is not None:
        of_peak = percent(share(device.dram_bytes_s, device.dram_peak_bytes_s))
        parts.append(line(("DRAM ", "muted"), rate(device.dram_bytes_s), (f" {of_peak}", "muted")))
    elif device.memory_busy_pct is not None:
        parts.append(line(("mem busy ", "muted"), percent(device.memory_busy_pct)))
    if device.pcie_rx_bytes_s is not None and device.pcie_tx_bytes_s is not None:
        received, sent = rate(device.pcie_rx_bytes_s), rate(device.pcie_tx_bytes_s)
        parts.append(line(("PCIe ↓", "muted"), received, (" ↑", "muted"), sent))
    lines = [clip(one, width) for one in _packed(parts, width)]
    if device.held_back:
        reasons = visible_line(", ".join(device.held_back))
        lines.append(clip(line(("▲ ", "warn"), clocks(device), (f" held back: {reasons}", "muted")), width))
    return lines


def clocks(device: DeviceMemory) -> str:
    """The clock of the multiprocessors, and the highest that they can have, such as ``1410 of 1980 MHz``."""
    now, most = device.sm_clock_mhz, device.sm_clock_max_mhz
    if now is None:
        return "clocks"
    return f"{now:.0f} MHz" if most is None else f"{now:.0f} of {most:.0f} MHz"


def _packed(parts: list[Line], width: int) -> list[Line]:
    """As many parts a line as fit, with two blanks between them."""
    lines: list[Line] = []
    for part in parts:
        if lines and width_of(lines[-1]) + 2 + width_of(part) <= width:
            lines[-1] = (*lines[-1], ("  ", "text"), *part)
        else:
            lines.append(part)
    return lines


def _missing(device: DeviceMemory) -> str:
    memory = [entry.why for entry in device.missing if entry.metric in ("total_bytes", "used_bytes")]
    return visible_line("; ".join(dict.fromkeys(memory)))


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
        lines += _work_in_words(device)
        for why, metrics in reasons(device).items():
            lines.append(f"{', '.join(metrics)}: n/a, {visible_line(why)}")
    return lines


def reasons(device: DeviceMemory) -> dict[str, list[str]]:
    """What is not known of a device, by the reason: a lost device has one for all."""
    found: dict[str, list[str]] = {}
    for entry in device.missing:
        found.setdefault(entry.why, []).append(entry.metric)
    return found


def _work_in_words(device: DeviceMemory) -> list[str]:
    sentences = []
    if device.utilization_pct is not None:
        sentences.append(
            f"A kernel ran {percent(device.utilization_pct)} of the time; the memory was in use "
            f"{percent(device.memory_busy_pct)} of the time, which is not its bandwidth."
        )
    if device.dram_bytes_s is not None:
        of_peak = percent(share(device.dram_bytes_s, device.dram_peak_bytes_s))
        sentences.append(
            f"Its memory moved {rate(device.dram_bytes_s)}, {of_peak} of its peak of {rate(device.dram_peak_bytes_s)}."
        )
    if device.pcie_rx_bytes_s is not None:
        sentences.append(
            f"PCIe: {rate(device.pcie_rx_bytes_s)} to it and {rate(device.pcie_tx_bytes_s)} from it; the link as it is "
            f"now carries {rate(device.pcie_peak_bytes_s)} each way."
        )
    if device.power_w is not None:
        limit = "" if device.power_limit_w is None else f" of {device.power_limit_w:.0f} W that it may"
        sentences.append(f"It draws {device.power_w:.0f} W{limit}.")
    if device.temperature_c is not None:
        sentences.append(f"It is at {device.temperature_c:.0f} °C.")
    if device.sm_clock_mhz is not None:
        memory = "" if device.memory_clock_mhz is None else f", its memory at {device.memory_clock_mhz:.0f} MHz"
        sentences.append(f"It runs at {clocks(device)}{memory}.")
    if device.held_back is not None:
        reasons = visible_line(", ".join(device.held_back))
        sentences.append(f"Its clocks are held back: {reasons}." if reasons else "Nothing holds its clocks back.")
    return sentences


GAUGE = Gauge(
    name="VRAM",
    draw=_draw,
    what="Memory of each GPU: how much is used, and for what: weights, KV cache, llama.cpp's compute buffers, what the "
    "driver takes for us, and what other programs hold. Below it what the GPU does: busy is the share of time in which "
    "a kernel ran, DRAM what its memory really moved, PCIe what went to it (↓) and came from it (↑).",
    unit="GiB (1024³ bytes), as nvidia-smi counts them; bytes a second are decimal. Busy and DRAM are over the time "
    "since the former reading (the driver's own window, for busy), PCIe over 20 ms",
    source="Used, total and all work from the GPU's driver (NVML, or sysfs), DRAM from its performance monitor (GPM, "
    "from Hopper on; older ones tell only how long the memory was busy); where there is neither, memory alone, by ggml "
    "in the engine, after each load and reply. Weights, KV and compute from llama.cpp's own buffers; driver is what is "
    "ours beyond those; other is the rest.",
    how="Where other is large, another program takes the room. Free room can hold more layers: raise n_gpu_layers. "
    "DRAM above 60 % of its peak: a smaller quant is faster. PCIe near its limit: weights or KV cross it for each "
    "token. Clocks held back (▲) make every token slower: the reason says what to change.",
    state=_state,
)

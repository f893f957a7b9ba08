"""The gauges of a narrow terminal: three lines with what matters most."""

from __future__ import annotations

from pagewise.app.figures import duration, of_size, per_second, percent, rate, share
from pagewise.app.gauges.layers import cells
from pagewise.app.gauges.memory import total
from pagewise.app.gauges.model_file import resident_share
from pagewise.app.gauges.strip import bar, merged
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, clip, ends, line, width_of
from pagewise.app.visible import visible_line


def draw_folded(readout: Readout, width: int) -> list[Line]:
    """Three lines: memory and disk; layers and timing; the verdict."""
    return [_memory(readout, width), _speed(readout, width), _verdict(readout, width)]


def _memory(readout: Readout, width: int) -> Line:
    snapshot = readout.snapshot
    if snapshot is None:
        return clip((("gauges  ", "label"), ("waiting for the first reading", "muted")), width)
    device = snapshot.devices.devices[0] if snapshot.devices.devices else None
    if device is not None and device.used_bytes is not None and device.total_bytes:
        name, used, whole, word = "VRAM", device.used_bytes, device.total_bytes, ""
    else:
        whole = total(snapshot.memory)
        name, used, word = "RAM", max(whole - snapshot.memory.available_bytes, 0), ""
    left: list[Span] = [(f"{name} ", "label"), (of_size(used, whole), "text"), (f"{word} ", "muted")]
    parts: list[Line] = []
    if snapshot.residency is not None:
        parts.append(line(("file ", "muted"), percent(resident_share(snapshot.residency))))
    if snapshot.paging is not None:
        parts.append(line(("page-in ", "muted"), f"{rate(snapshot.paging.page_in_bytes_s):>8}"))
    if readout.model is not None and readout.kv_used is not None:
        parts.append(line(("ctx ", "muted"), f"{percent(share(readout.kv_used, readout.model.n_ctx)):>5}"))
    right = _joined(parts)
    room = width - width_of(left) - width_of(right) - 2
    if room >= 4:
        left += bar(used / whole, min(room, 16), "accent")
    return ends(left, right, width)


def _speed(readout: Readout, width: int) -> Line:
    figures = line(
        ("TTFT ", "muted"),
        _known(duration(readout.ttft_ms), "text"),
        ("  TPOT ", "muted"),
        _known(duration(readout.tpot_ms), "value"),
        ("  ", "text"),
        _known(f"{per_second(readout.decode_rate):>10}", "value"),
    )
    room = width - width_of(figures) - 2
    clock = readout.clock
    if clock is None:
        return ends((("layers  ", "label"), ("with the first reply", "muted")), figures, width)
    strip = merged(cells(clock, gaps=False))
    named: Line = (("in ", "muted"), *strip, (" out", "muted"))
    if width_of(named) <= room:
        return ends(named, figures, width)
    return ends(clip(strip, room), figures, width)


def _verdict(readout: Readout, width: int) -> Line:
    verdict = readout.verdict
    if verdict is None:
        return clip((("bound by  ", "label"), ("judged after the next reply", "muted")), width)
    return clip(
        line(
            ("bound by ", "label"),
            (visible_line(verdict.bound_by), "strong accent"),
            ("  → ", "accent") if verdict.advice else "",
            visible_line(verdict.advice),
        ),
        width,
    )


def _known(figure: str, role: str) -> Span:
    return (figure, "muted" if figure.strip() == "n/a" else role)


def _joined(parts: list[Line]) -> Line:
    spans: list[Span] = []
    for part in parts:
        if spans:
            spans.append(("  ", "text"))
        spans += part
    return tuple(spans)

"""PAGE-IN: what is read from disk for the model, now and over the last minutes."""

from __future__ import annotations

from pagewise.app.figures import percent, rate
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import braille, coloured
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, ends
from pagewise.app.visible import visible_line

_FLOOR = 1e6
"""Bytes a second that fill the history when nothing was more: below it a trickle would look like a flood."""


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    paging = readout.snapshot.paging if readout.snapshot else None
    if paging is None:
        return [title("PAGE-IN", "", figure("n/a"), width), quiet("no engine to read from yet", width)]
    stalls = paging.stalls_s
    right: tuple[Span, ...] = (
        *figure(rate(paging.page_in_bytes_s)),
        (f"{'n/a' if stalls is None else f'{stalls:,.0f}':>7}", "warn" if stalls else "muted"),
        (" stalls/s", "muted"),
    )
    lines = [title("PAGE-IN", "", right, width)]
    values = [value for value, _ in readout.page_in]
    recent = values[-2 * width :]
    top = max([value for value in recent if value is not None], default=0.0)
    height = 2 if rows > 1 else 1
    lines += [coloured(text, "accent") for text in braille(recent, width, height, max(top, _FLOOR))]
    if rows > 0:
        left: Line = ((f"peak {rate(top)}", "muted"),)
        pressure = paging.io_pressure_pct
        who = "box waiting" if paging.pressure_scope == "box" else "waiting"
        waits: Line = ((f"{who} for disk {percent(pressure)}", "warn" if (pressure or 0) >= 10 else "muted"),)
        lines.append(ends(left, waits if pressure is not None else (), width))
    return lines


def _state(readout: Readout) -> list[str]:
    paging = readout.snapshot.paging if readout.snapshot else None
    if paging is None:
        return ["Nothing is shown: no engine is running, or no reading has arrived yet."]
    stalls = "n/a" if paging.stalls_s is None else f"{paging.stalls_s:.0f}"
    lines = [
        f"Over the last {paging.interval_s:.1f} s: {rate(paging.page_in_bytes_s)} read, {stalls} stalls a second.",
        f"Pages read again after they were reclaimed ({paging.refault_scope}): {rate(paging.refault_bytes_s)}.",
        f"Time in which something waited for I/O ({paging.pressure_scope}): {percent(paging.io_pressure_pct)}, "
        f"for memory: {percent(paging.memory_pressure_pct)}.",
    ]
    if paging.disk is not None:
        lines.append(f"The disk {visible_line(paging.disk)} as a whole reads {rate(paging.disk_read_bytes_s)}.")
    if readout.streaming is not None and readout.streaming.streamed_bytes:
        lines.append("Threads that read ahead stall too, in place of those that compute; LAYERS tells them apart.")
    return lines + [f"{missing.metric} is n/a: {visible_line(missing.why)}" for missing in paging.missing]


GAUGE = Gauge(
    name="PAGE-IN",
    draw=_draw,
    what="Bytes read from disk for the engine, with a history (newest at the right), and stalls: page faults that made "
    "a thread wait for the disk.",
    unit="MB/s (10⁶ bytes a second); stalls are a count a second, not bytes",
    source="read_bytes and majflt of the engine's process in /proc; the share of waiting is the kernel's (PSI).",
    how="High during a load is normal. If it stays high while tokens come, the model does not fit into RAM: every "
    "token waits for the disk.",
    state=_state,
)

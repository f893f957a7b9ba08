"""RAM: what the engine holds of the box's memory, and what is left."""

from __future__ import annotations

from pagewise.app.figures import of_size, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import stacked
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, ends, line
from pagewise.readings import Memory


def total(memory: Memory) -> int:
    """The memory there is to use: the box's RAM, or our cgroup's limit where that is less."""
    limit = memory.limit_bytes
    return min(limit, memory.total_bytes) if limit is not None else memory.total_bytes


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    if readout.snapshot is None:
        return [title("RAM", "", figure("n/a"), width), quiet("waiting for the first reading", width)]
    memory = readout.snapshot.memory
    whole = total(memory)
    available = min(memory.available_bytes, whole)
    private, mapped = memory.engine_anon_bytes, memory.engine_file_bytes
    lines = [
        title(
            "RAM",
            "limit" if whole < memory.total_bytes else "",
            (*figure(of_size(available, whole)), (" free", "muted")),
            width,
        ),
    ]
    taken = max(memory.total_bytes - memory.available_bytes - (private or 0), 0)
    lines.append(
        stacked(
            [
                ((private or 0) / whole, "█", "accent"),
                ((mapped or 0) / whole, "▓", "accent"),
                (taken / whole, "▒", "muted"),
            ],
            width,
        )
    )
    if rows > 0:
        legend = (
            line(
                ("█", "accent"),
                (" private ", "muted"),
                size(private),
                ("  ▓", "accent"),
                (" mapped ", "muted"),
                size(mapped),
            )
            if private is not None or mapped is not None
            else line(("no engine is running", "muted"))
        )
        swap = line(("swap ", "muted"), size(memory.swap_used_bytes)) if memory.swap_used_bytes else ()
        lines.append(ends(legend, swap, width))
    return lines


def _state(readout: Readout) -> list[str]:
    if readout.snapshot is None:
        return ["No reading has arrived yet."]
    memory = readout.snapshot.memory
    lines = [
        f"The box has {size(memory.total_bytes)}; {size(memory.available_bytes)} is available.",
        f"The engine holds {size(memory.engine_anon_bytes)} private and {size(memory.engine_file_bytes)} of mapped "
        f"files; swap in use on the box: {size(memory.swap_used_bytes)}.",
    ]
    if memory.limit_bytes is not None:
        lines.append(f"Our control group may use no more than {size(memory.limit_bytes)}.")
    if memory.engine_rss_bytes is None:
        lines.append("The engine's figures are n/a: no engine is running, or it may not be read.")
    if memory.engine_cpu_pct is not None:
        lines.append(f"The engine uses {memory.engine_cpu_pct:.0f} % of one core.")
    return lines


GAUGE = Gauge(
    name="RAM",
    draw=_draw,
    what="Memory of the box: what the engine holds (private memory, and pages of the model file that it has mapped), "
    "what others hold, and what is still available.",
    unit="GiB (1024³ bytes)",
    source="The kernel: MemAvailable of /proc/meminfo, RssAnon and RssFile of /proc/PID/status, the cgroup's limit.",
    how="Mapped pages of the model file can be given up and count as available. When available nears zero, pages of "
    "the file are reclaimed and must be read again: watch PAGE-IN.",
    state=_state,
)

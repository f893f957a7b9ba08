"""A sample of the monitor as lines of text: one row for each process that holds a model, and what could not be read."""

from __future__ import annotations

from collections.abc import Sequence

from pagewise.app.figures import count, duration, of_size, per_second, percent, rate, share, significant, size
from pagewise.app.gauges.vram import draw_work, reasons
from pagewise.app.visible import visible_line
from pagewise.readings import EngineReadings, MonitorSample, WatchedModel

_HEADINGS = ("PID", "PROGRAM", "MODEL", "QUANT", "HELD", "IN RAM", "PRIVATE", "CPU", "VRAM", "PAGE-IN", "TOK/S", "KV")
_RIGHT = frozenset({"PID", "IN RAM", "PRIVATE", "CPU", "VRAM", "PAGE-IN", "TOK/S", "KV"})
_WIDEST = {"PROGRAM": 14, "MODEL": 30}
_LEFT_OUT = ("VRAM", "PRIVATE", "CPU", "HELD", "QUANT", "KV", "IN RAM")
"""Columns that go where there is no room, in this order."""
_WHOLE_LINE = 1000
_WORTH_SAYING = ("mappings", "open files", "process", "models", "residency", "paging")
NOTHING = (
    "No process that can be looked into holds a GGUF model.",
    "Start one (llama-server, Ollama, pagewise, …), or name a file with --file, a server with --url.",
)


def table(sample: MonitorSample, width: int | None = None) -> list[str]:
    """The lines. Columns that matter least are left out where the table would be wider than ``width`` cells."""
    lines: list[str] = []
    if sample.models:
        lines += _columns([_HEADINGS, *map(_row, sample.models)], width)
        for model in sample.models:
            lines += _below(model)
    else:
        lines += NOTHING
    lines += _box(sample)
    lines += [f"note: {visible_line(entry.why)}" for entry in sample.missing]
    return lines


def _box(sample: MonitorSample) -> list[str]:
    """What the machine has and does: its memory, and each of its devices."""
    memory = sample.memory
    limit = "" if memory.limit_bytes is None else f", limited to {size(memory.limit_bytes)}"
    free = f"{of_size(memory.available_bytes, memory.total_bytes)} RAM available{limit}"
    lines = [f"box: {free}, CPU {percent(memory.cpu_pct)}, swap {size(memory.swap_used_bytes)}"]
    if not sample.devices.devices:
        lines.append(f"GPU: none. {visible_line(sample.devices.why_none or 'No reason was given.')}")
    for device in sample.devices.devices:
        used = f"{of_size(device.used_bytes, device.total_bytes)} used"
        work = ["".join(text for text, _ in one) for one in draw_work(device, _WHOLE_LINE)]
        lines.append("  ".join((f"GPU {device.index}: {visible_line(device.name)}, {used}", *work)))
        lines += [
            f"GPU {device.index}: {', '.join(names)} n/a: {visible_line(why)}" for why, names in reasons(device).items()
        ]
    return lines


def _row(model: WatchedModel) -> tuple[str, ...]:
    main = model.models[0] if model.models else None
    residency = model.residency[0] if model.residency else None
    server = model.server
    name = (main.name or main.path.rpartition("/")[2]) if main else (server.model if server else "")
    more = f" +{len(model.models) - 1}" if len(model.models) > 1 else ""
    return (
        "–" if model.pid is None else str(model.pid),
        visible_line(model.program),
        (visible_line(name) or "n/a") + more,
        (main.quant if main else "") or "n/a",
        main.held if main else "n/a",
        percent(share(residency.file_cached_bytes, residency.file_bytes)) if residency else "n/a",
        size(model.anon_bytes),
        percent(model.cpu_pct),
        size(model.vram_bytes),
        rate(model.paging.page_in_bytes_s) if model.paging else "n/a",
        "n/a" if model.decode_rate is None else significant(model.decode_rate),
        percent(model.kv_pct),
    )


def _below(model: WatchedModel) -> list[str]:
    who = "–" if model.pid is None else str(model.pid)
    lines = []
    if model.state == "ended":
        return [f"{who}: it has ended."]
    for held in model.models:
        where = f"{who}: {visible_line(held.path)}, {size(held.file_bytes)}"
        layers = "" if held.n_layer is None else f", {count(held.n_layer)} layers"
        lines.append(f"{where}{layers}, found by {' and '.join(held.found_by)}")
        lines += [f"{who}: {visible_line(entry.why)}" for entry in held.missing]
    if model.engine is not None:
        lines += [f"{who}: {said}" for said in _engine(model.engine)]
    if model.verdict is not None:
        lines.append(f"{who}: bound by {visible_line(model.verdict.bound_by)}. {visible_line(model.verdict.why)}")
    told = [entry.why for entry in model.missing if entry.metric in _WORTH_SAYING]
    if model.server is not None:
        told += [entry.why for entry in model.server.missing if entry.metric == "server"]
    return lines + [f"{who}: {visible_line(why)}" for why in told]


def _engine(engine: EngineReadings) -> list[str]:
    context = f"context {count(engine.kv_used)} of {count(engine.n_ctx)} tokens"
    said = [f"pagewise's engine: {engine.state}, profile {visible_line(engine.profile)}, {context}"]
    if engine.n_output:
        which = "this reply" if engine.generating else "its last reply"
        rates = f"{per_second(engine.decode_rate)}, ITL p95 {duration(engine.itl_p95_ms)}"
        said.append(f"{which}: TTFT {duration(engine.ttft_ms)}, TPOT {duration(engine.tpot_ms)}, {rates}")
    if engine.clock is not None:
        slowest = sorted(zip(engine.clock.ms, engine.clock.names, strict=False), reverse=True)[:3]
        named = ", ".join(f"{visible_line(name)} ({duration(ms)})" for ms, name in slowest)
        said.append(f"a probed token took {duration(engine.clock.total_ms)}; slowest layers: {named}")
    return said


def _columns(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    cut = [[_cut(cell, _WIDEST.get(heading, 99)) for heading, cell in zip(_HEADINGS, row, strict=True)] for row in rows]
    widths = dict(zip(_HEADINGS, (max(map(len, column)) for column in zip(*cut, strict=True)), strict=True))
    for heading in _LEFT_OUT:
        if width is None or sum(widths.values()) + 2 * (len(widths) - 1) <= width:
            break
        del widths[heading]
    return [
        "  ".join(
            cell.rjust(widths[heading]) if heading in _RIGHT else cell.ljust(widths[heading])
            for heading, cell in zip(_HEADINGS, row, strict=True)
            if heading in widths
        ).rstrip()
        for row in cut
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

"""The model in focus: its gauges, where its layers' bytes were over time, and why something is not known."""

from __future__ import annotations

from collections.abc import Callable

from pagewise.app.figures import count, duration, per_second, percent, size
from pagewise.app.gauges import bound_by, layers, memory, model_file, page_in, vram
from pagewise.app.gauges.context import NEARLY_FULL
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import bar, merged
from pagewise.app.monitor.watched import Watched, name_of, reasons
from pagewise.app.spans import BLANK, Line, Span, clip, ends, line, wrap
from pagewise.app.visible import visible_line
from pagewise.readings import EngineReadings, HeldModel, LayerClock, ServerReadings, WatchedModel

_SHADES = " ░▒▓█"
_UNKNOWN = "·"
_LEVELS = ((4, 1), (3, 1), (2, 1), (1, 1), (1, 0), (0, 0))
"""How rich the gauges are, and the blank lines between them: the first that fits."""
_TIME_CELLS = 9
_LEAST_WITH_TIMES = 40
_WORDS = {
    "vram_bytes": "VRAM",
    "engine": "layer times",
    "header": "name and layers",
    "file": "the file",
    "mapped_bytes": "what is mapped",
    "page_in_bytes_s": "page-in",
    "stalls_s": "stalls",
    "refault_bytes_s": "refaults",
    "decode_rate": "tokens a second",
    "prefill_rate": "prefill",
    "ttft_ms": "TTFT",
    "kv_used": "context",
    "processing": "requests running",
    "waiting": "requests waiting",
    "rss_bytes": "RAM",
    "file_bytes": "mapped RAM",
    "anon_bytes": "private RAM",
}
"""What the fields of readings are called on the screen."""
SAME_AS_CHAT: tuple[Gauge, ...] = (model_file.GAUGE, page_in.GAUGE, memory.GAUGE, vram.GAUGE, bound_by.GAUGE)
"""Gauges that are drawn as they are beside the chat."""


def draw_gauges(watched: Watched, width: int, height: int) -> list[Line]:
    """The gauges of one model, as rich as the height allows: all alike, then what matters most with the lines left."""
    assert watched.model is not None
    parts = _parts(watched, watched.model, width)
    for rows, gap in _LEVELS:
        drawn = [part(rows) for part in parts]
        if _height(drawn, gap) <= height:
            break
    else:
        rows, gap = 0, 0
        drawn = [part(rows) for part in parts]
    verdict = len(parts) - 1
    for index, more in ((verdict, 1), (verdict, 2), *((index, 1) for index in range(1, verdict))):
        richer = [*drawn[:index], parts[index](rows + more), *drawn[index + 1 :]]
        if _height(richer, gap) <= height:
            drawn = richer
    lines: list[Line] = []
    for one in drawn:
        lines += ([BLANK] if lines and gap else []) + one
    return lines


def _parts(watched: Watched, model: WatchedModel, width: int) -> list[Callable[[int], list[Line]]]:
    """What draws each gauge, given how many rows it may be rich; the file first, the verdict last."""
    readout = watched.readout
    parts: list[Callable[[int], list[Line]]] = [
        lambda rows: draw_held(model, width),
        lambda rows: _draw_file(watched, model, width, rows),
        lambda rows: page_in.GAUGE.draw(readout, width, rows),
        lambda rows: memory.GAUGE.draw(readout, width, rows),
    ]
    engine = model.engine
    if engine is None:
        parts.append(lambda rows: draw_server(model.server, model, width, rows))
    else:
        parts.append(lambda rows: draw_engine(engine, width, rows))
        parts.append(lambda rows: layers.GAUGE.draw(readout, width, rows))
    if _has_devices(watched):
        parts.append(lambda rows: vram.GAUGE.draw(readout, width, rows))
    return [*parts, lambda rows: _draw_verdict(watched, width, rows)]


def _height(drawn: list[list[Line]], gap: int) -> int:
    return sum(map(len, drawn)) + gap * (len(drawn) - 1)


def draw_held(model: WatchedModel, width: int) -> list[Line]:
    """Which file, and how the process holds it; first what a person must know of it."""
    if not model.models:
        return [quiet(_first_reason(model, "process", "mappings", "models") or "It holds no model.", width)]
    main = model.models[0]
    held = "" if model.pid is None else f"{main.held}  "
    right = line((held, "strong"), (size(main.file_bytes), "text"))
    path = visible_line(main.path)
    room = max(width - sum(len(text) for text, _ in right) - 2, 8)
    shown = path if len(path) <= room else "…" + path[-(room - 1) :]
    lines: list[Line] = [ends(line((shown, "muted")), right, width)]
    if model.state == "ended":
        lines.append(clip(line(("▲ ", "warn"), ("It has ended. These are its last readings.", "text")), width))
    if main.missing:
        lines += [clip(one, width) for one in wrap((("▲ ", "warn"), (_said(main), "text")), width, rest=2)[:2]]
    return lines


def _draw_file(watched: Watched, model: WatchedModel, width: int, rows: int) -> list[Line]:
    """Where the file's bytes are; where that cannot be told, why."""
    why = _first_reason(model, "residency", "paging")
    if model.residency or not model.models or not why:
        return model_file.GAUGE.draw(watched.readout, width, rows)
    return [title("MODEL FILE", size(model.models[0].file_bytes), figure("n/a"), width), *_remark(why, width, rows)]


def draw_engine(engine: EngineReadings, width: int, rows: int) -> list[Line]:
    """What an engine of pagewise tells of its turn in hand, or of its last one."""
    detail = visible_line(engine.state if engine.generating or not engine.n_output else f"{engine.state}, last reply")
    lines = [title("ENGINE", detail, figure(per_second(engine.decode_rate)), width)]
    left = line(("TTFT ", "muted"), duration(engine.ttft_ms), ("  TPOT ", "muted"), duration(engine.tpot_ms))
    p95 = line(("ITL p95 ", "muted"), duration(engine.itl_p95_ms))
    lines.append(ends(left, p95, width))
    if engine.kv_pct is not None and rows > 0:
        lines.append(_context(engine.kv_pct, engine.kv_used, engine.n_ctx, width))
    return lines


def _context(filled_pct: float, used: int | None, whole: int | None, width: int) -> Line:
    text = f" {count(used)} / {count(whole)} tokens  {percent(filled_pct):>5}"
    room = max(width - len(text) - 4, 1)
    role = "warn" if filled_pct >= NEARLY_FULL else "accent"
    return clip((("ctx ", "muted"), *bar(filled_pct / 100, room, role), (text, "text")), width)


def draw_server(server: ServerReadings | None, model: WatchedModel, width: int, rows: int) -> list[Line]:
    """What the server says of its requests."""
    if server is None:
        why = _first_reason(model, "server") or "no server was found"
        return [title("SERVER", "", figure("n/a"), width), *_remark(why, width, rows)]
    silent = next((entry.why for entry in server.missing if entry.metric == "server"), "")
    if silent:
        return [title("SERVER", visible_line(server.kind), figure("n/a"), width), *_remark(silent, width, rows)]
    decode = "idle" if server.decode_rate == 0 else per_second(server.decode_rate)
    lines = [title("SERVER", visible_line(server.kind), figure(decode), width)]
    left = line(
        ("TTFT ", "muted"),
        f"{'≈' if server.ttft_is_estimate else ''}{duration(server.ttft_ms)}",
        ("  prefill ", "muted"),
        per_second(server.prefill_rate),
    )
    requests = line(_number(server.processing), (" running ", "muted"), _number(server.waiting), (" waiting", "muted"))
    lines.append(ends(left, requests, width))
    if server.kv_pct is not None and rows > 0:
        lines.append(_context(server.kv_pct, server.kv_used, server.kv_size, width))
    return lines


def draw_history(watched: Watched, width: int, height: int) -> list[Line]:
    """Layers from top to bottom, time from left to right: how much of each layer was in RAM."""
    names = watched.names
    if not names or height < 4:
        return [quiet("where its layers' bytes are cannot be seen", width)]
    rows = min(len(names), height - 2)
    label = max(len(name) for name in names)
    clock = watched.readout.clock
    times = _times(clock, names) if clock is not None and width >= _LEAST_WITH_TIMES else ()
    columns = max(width - label - 1 - (_TIME_CELLS if times else 0), 1)
    samples = list(watched.layers)[-columns:]
    probed = line((f"token {clock.token}", "muted")) if clock is not None and times else ()
    lines: list[Line] = [title("LAYERS IN RAM", "over time, now at the right", probed, width)]
    top = max((sum(ms) / len(ms) for ms in (_part(times, row, rows) for row in range(rows)) if ms), default=0.0)
    for row in range(rows):
        first, last = row * len(names) // rows, (row + 1) * len(names) // rows
        cells: list[Span] = [(" " * (columns - len(samples)), "faint")]
        cells += [_cell(sample[first:last]) for sample in samples]
        ms = _part(times, row, rows)
        spent = f"{duration(sum(ms)):>{_TIME_CELLS}}"
        time = line((spent, layers.heat(sum(ms) / len(ms), top))) if ms else ()
        lines.append((((f"{names[first]:>{label}} ", "muted")), *merged(cells), *time))
    legend = [
        (_SHADES[4], "accent"), (" all of it  ", "muted"), ("".join(_SHADES[3:0:-1]), "accent"),
        (" part of it  blank none  ", "muted"), (_UNKNOWN, "muted"), (" n/a", "muted"),
    ]  # fmt: skip
    return [*lines, clip(legend, width)]


def draw_reasons(watched: Watched, width: int) -> list[Line]:
    """Everything about one model in sentences: what it is, what the gauges mean, and why something is not known."""
    model = watched.model
    assert model is not None
    lines: list[Line] = []
    facts = [
        f"{visible_line(model.program)}, process {model.pid}, of {visible_line(model.user)}."
        if model.pid is not None
        else "No process is known of it.",
        *(_fact(held) for held in model.models),
    ]
    for fact in facts:
        lines += wrap(((fact, "text"),), width)
    found = reasons(model)
    if found:
        lines += [BLANK, (("NOT KNOWN", "label"),)]
    for entry in found:
        name = _WORDS.get(entry.metric, entry.metric.replace("_", " "))
        lines += wrap(((f"{visible_line(name)}  ", "strong"), (visible_line(entry.why), "text")), width, rest=2)
    for gauge in SAME_AS_CHAT:
        lines += [BLANK, ((gauge.name, "label"),)]
        for sentence in gauge.state(watched.readout):
            lines += wrap(((sentence, "text"),), width)
        lines += wrap(((gauge.source, "muted"),), width)
    if model.engine is not None:
        lines += [BLANK, (("ENGINE", "label"),)]
        for sentence in (*_of_engine(model.engine), *layers.GAUGE.state(watched.readout)):
            lines += wrap(((sentence, "text"),), width)
        lines += wrap(((layers.GAUGE.source, "muted"),), width)
    if model.server is not None:
        lines += [BLANK, (("SERVER", "label"),)]
        lines += wrap(((_about(model.server), "text"),), width)
    return lines


def _draw_verdict(watched: Watched, width: int, rows: int) -> list[Line]:
    model = watched.model
    if watched.readout.verdict is None and model is not None:
        why = _first_reason(model, "verdict") or "nothing can be said yet"
        return [title("BOUND BY", "", figure("n/a"), width), *_remark(why, width, rows)]
    return bound_by.GAUGE.draw(watched.readout, width, rows)


def _remark(text: str, width: int, rows: int) -> list[Line]:
    """A reason in place of a value: in full where there is room."""
    return wrap(((text, "muted"),), width)[:3] if rows > 0 else [quiet(text, width)]


def _has_devices(watched: Watched) -> bool:
    snapshot = watched.readout.snapshot
    return snapshot is not None and bool(snapshot.devices.devices)


def _times(clock: LayerClock, names: tuple[str, ...]) -> tuple[float, ...]:
    """What each of the layers took in the token that was probed last; nothing where they are others."""
    took = dict(zip(clock.names, clock.ms, strict=False))
    return tuple(took[name] for name in names) if took.keys() >= set(names) else ()


def _part(times: tuple[float, ...], row: int, rows: int) -> tuple[float, ...]:
    return times[row * len(times) // rows : (row + 1) * len(times) // rows]


def _cell(shares: tuple[float | None, ...]) -> Span:
    known = [share for share in shares if share is not None]
    if not known:
        return (_UNKNOWN, "muted")
    mean = sum(known) / len(known)
    step = 0 if mean <= 0 else 4 if mean >= 0.98 else max(1, min(3, round(4 * mean)))
    return (_SHADES[step], "accent")


def _first_reason(model: WatchedModel, *metrics: str) -> str:
    return next((visible_line(entry.why) for entry in model.missing if entry.metric in metrics), "")


def _said(held: HeldModel) -> str:
    return " ".join(visible_line(entry.why) for entry in held.missing)


def _fact(held: HeldModel) -> str:
    layers = "" if held.n_layer is None else f", {count(held.n_layer)} layers"
    mapped = "" if held.mapped_bytes is None else f"; {size(held.mapped_bytes)} of it have an address in the process"
    return (
        f"{visible_line(held.path)}: {size(held.file_bytes)}{layers}, {held.held}, found by "
        f"{' and '.join(held.found_by)}{mapped}."
    )


def _of_engine(engine: EngineReadings) -> list[str]:
    now = "It is writing a reply" if engine.generating else f"It is {visible_line(engine.state)}"
    made = "as tokens passed its host" if engine.generating else "by its own clock, of the last reply"
    said = [f"{now}, under the profile {visible_line(engine.profile)}. Its figures are told by its host: {made}."]
    if engine.probe_cost_pct is not None:
        said.append(f"Probing 1 token in {engine.probe_every} cost {percent(max(engine.probe_cost_pct, 0.0))}.")
    if engine.clock_age_s is not None:
        said.append(f"The last probe was {engine.clock_age_s:.0f} s ago.")
    return said


def _about(server: ServerReadings) -> str:
    made = {
        "slots": "the growth of what its slots have written",
        "counters": "the difference of its counters",
        "gauge": "its own gauge",
    }.get(server.decode_source, "")
    text = f"{server.url} answered {server.age_s:.0f} s ago."
    if made:
        text += f" Tokens a second are made from {made}."
    if server.ttft_is_estimate:
        text += " TTFT is an estimate: it is seen from outside, by asking again and again."
    return text


def _number(value: int | None) -> str:
    return "n/a" if value is None else count(value)


def heading(watched: Watched) -> str:
    """The title of the page that explains a model."""
    model = watched.model
    return visible_line(name_of(model)) if model is not None else ""

"""One HTML page of a record: nothing on it is fetched, nothing on it runs, and all text of others is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files

from pagewise import __version__
from pagewise.app.figures import NOT_KNOWN, count, duration, per_second, percent, rate, significant, size
from pagewise.messages import Loaded
from pagewise.readings import LayerClock, Verdict, percentile
from pagewise.record.reader import Record
from pagewise.record.report.elements import facts, table, text
from pagewise.record.report.flame import flame_section
from pagewise.record.report.operators import operators_section
from pagewise.record.report.summary import UNKNOWN, Clock, Sample, Subject, Summary, Turn
from pagewise.record.report.svg import (
    MOST_COLUMNS,
    Curve,
    Value,
    binary_ticks,
    clock,
    heat_map,
    histogram,
    line_plot,
    ticks,
)

BEGINNING = "<!doctype html>\n<!-- made by pagewise report -->\n"
"""By it a file is known to be a report, which a newer one may replace."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_TURNS = 12
_MOST_TURNS = 500
_FIGURES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 9})
"""Columns of turns that are figures."""
_MOST_SUBJECTS = 12
_FEW = 8
"""Of fewer values than that each one is written instead of a histogram."""
_MOST_FAILURES = 50
_MOST_PROFILES = 4


def page(record: Record, summary: Summary) -> str:
    """The page."""
    body = [
        _heading(record),
        _machine(summary),
        *(_model(at_s, loaded) for at_s, loaded in summary.loads[-4:]),
        _turns(summary.turns),
        _distributions(summary),
        *_layers(summary.clocks),
        _profiles(summary),
        *(_subject(subject) for subject in summary.subjects[:_MOST_SUBJECTS]),
        _left_out(summary.subjects[_MOST_SUBJECTS:]),
        _failures(summary),
        _foot(record),
    ]
    style = files("pagewise.record.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'{BEGINNING}<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>pagewise report</title><style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


# ---- what was recorded ----------------------------------------------------------------------------------------------


def _heading(record: Record) -> str:
    header = record.header
    made_by = f"recorded by pagewise {header.pagewise}, {header.command}"
    words = f"{header.begun} · {clock(record.length_ms / 1000)} long · {made_by}"
    remark = f'<p class="warn">{text(record.remark)}</p>' if record.remark else ""
    if record.unreadable:
        n = record.unreadable
        said = f"{count(n)} entries are of no kind that this pagewise knows; they are left out."
        remark += f'<p class="warn">{text(said)}</p>'
    return f"<h1>pagewise report</h1><p class=muted>{text(words)}</p>{remark}"


def _machine(summary: Summary) -> str:
    rows: list[tuple[str, str]] = []
    if summary.system:
        rows.append(("System", summary.system))
    if summary.memory is not None:
        limit = summary.memory.limit_bytes
        rows.append(("RAM", size(summary.memory.total_bytes) + (f", limited to {size(limit)}" if limit else "")))
    if summary.devices is not None:
        rows += [
            (f"Device {device.index}", f"{device.name}, {size(device.total_bytes)}")
            for device in summary.devices.devices
        ]
        if summary.devices.why_none:
            rows.append(("GPU", summary.devices.why_none))
    if summary.engine is not None:
        rows.append(("llama.cpp", summary.engine.llama_cpp))
        rows.append(("Its build", summary.engine.system_info))
    return f"<h2>Machine</h2>{facts(rows)}" if rows else ""


def _model(at_s: float, loaded: Loaded) -> str:
    model, profile = loaded.model, loaded.profile
    threads = f"{model.threads} for decode, {model.threads_batch} for prefill"
    context = f"{count(model.n_ctx)} tokens, KV cache {profile.cache_type_k} / {profile.cache_type_v}"
    rows = [
        ("Loaded", f"at {clock(at_s)}, in {duration(loaded.total_ms)} ({loaded.change}), profile {profile.name}"),
        ("File", f"{model.path.rpartition('/')[2]}, {size(model.file_bytes)}, {model.quant}, {model.architecture}"),
        ("Layers", f"{model.n_layer}; with the output {model.offloaded_layers} of {model.n_layer + 1} on accelerators"),
        ("Context", f"{context}, flash attention {'on' if model.flash_attention else 'off'}"),
        ("Threads", threads),
        ("Batch", f"{count(model.n_batch)}, by {count(model.n_ubatch)}"),
        ("Weights", f"{model.load_mode}{', repacked' if model.repacked else ''}"),
        (
            "A token reads",
            f"{size(model.bytes_per_token)} of weights, {size(model.kv_bytes_per_token)} of KV at each depth",
        ),
        *(("Note", note) for note in model.notes),
    ]
    return f"<h2>{text(model.name)}</h2>{facts(rows)}"


# ---- turns ----------------------------------------------------------------------------------------------------------


def _turns(turns: Sequence[Turn]) -> str:
    if not turns:
        return ""
    head = ("#", "at", "model", "prompt", "reused", "output", "TTFT", "TPOT", "p95 ITL", "decode", "end", "bound by")
    rows = [_turn(number, turn) for number, turn in enumerate(turns, 1)]
    last = next((turn.verdict for turn in reversed(turns) if turn.verdict is not None), None)
    shown = table(head, rows[-_TURNS:], _FIGURES)
    earlier = rows[:-_TURNS]
    more = ""
    if earlier:
        left = max(0, len(earlier) - _MOST_TURNS)
        note = f"; {count(left)} before them are in the tables only" if left else ""
        said = f"{count(len(earlier) - left)} earlier turns{note}"
        more = f"<details><summary>{text(said)}</summary>{table(head, earlier[left:], _FIGURES)}</details>"
    return f"<h2>Turns</h2>{_verdict(last, 'The last turn')}{shown}{more}"


def _turn(number: int, turn: Turn) -> Sequence[str]:
    timing = turn.timing
    bound_by = turn.verdict.bound_by if turn.verdict is not None else NOT_KNOWN
    first = (str(number), clock(turn.at_s), turn.model)
    if timing is None:
        return (*first, *[NOT_KNOWN] * 7, turn.reason or "not over", bound_by)
    return (
        *first,
        count(timing.n_prompt),
        count(timing.n_reused),
        count(timing.n_output),
        duration(timing.ttft_ms) + (" cold" if timing.cold else ""),
        duration(timing.tpot_ms),
        duration(timing.itl_percentile(95)),
        per_second(timing.decode_rate),
        turn.reason or "not over",
        bound_by,
    )


def _verdict(verdict: Verdict | None, who: str) -> str:
    if verdict is None:
        return ""
    steps = "".join(f"<li>{text(step)}</li>" for step in verdict.reasoning)
    chain = f"<details><summary>The whole reasoning</summary><ol>{steps}</ol></details>" if steps else ""
    return (
        f'<div class="verdict"><p><b>{text(who)} is bound by {text(verdict.bound_by)}.</b> {text(verdict.why)}</p>'
        f"<p>{text(verdict.advice)}</p>{chain}</div>"
    )


def _distributions(summary: Summary) -> str:
    timings = [turn.timing for turn in summary.turns if turn.timing is not None]
    warm = [timing for timing in timings if not timing.cold]
    ttft = [timing.ttft_ms for timing in warm if timing.ttft_ms is not None]
    cold = [timing.ttft_ms for timing in timings if timing.cold and timing.ttft_ms is not None]
    tpot = [timing.tpot_ms for timing in warm if timing.tpot_ms is not None]
    gaps = [gap for timing in timings for gap in timing.counted_ms]
    parts = [
        _distribution("TTFT", "time to the first token, of warm turns", ttft),
        f"<p class=muted>Cold turns, the first after a load: {text(', '.join(map(duration, cold[:20])))}.</p>"
        if cold
        else "",
        _distribution("TPOT", "time per output token, a turn at a time, of warm turns", tpot),
        _distribution("ITL", "each gap between two output tokens, of all turns", gaps),
    ]
    return "".join(parts)


def _distribution(name: str, what: str, values: Sequence[float]) -> str:
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return ""
    marks = [(f"p{q}", value) for q in (50, 95, 99) if (value := percentile(ordered, q)) is not None]
    if len(ordered) < _FEW:
        said = ", ".join(duration(value) for value in ordered)
        return f"<h3>{name} <small>{text(what)}</small></h3><p>{text(said)}</p>"
    n = f"{count(len(ordered))} values"
    return f"<h3>{name} <small>{text(what)}, {n}</small></h3>{histogram(ordered, _ms, f'{name} distribution', marks)}"


# ---- layers ---------------------------------------------------------------------------------------------------------


def _layers(clocks: Sequence[Clock]) -> Iterable[str]:
    """Of each model one map of layers × tokens; they are told apart by their process and the names of their layers."""
    groups: dict[tuple[str, tuple[str, ...]], list[Clock]] = {}
    for sample in clocks:
        if len(sample.clock.ms) == len(sample.clock.names):
            groups.setdefault((sample.who, sample.clock.names), []).append(sample)
    for (who, names), group in groups.items():
        shared = f" Each column is the mean of {len(group) / MOST_COLUMNS:.1f}." if len(group) > MOST_COLUMNS else ""
        axis = (f"first sampled token, {clock(group[0].at_s)}", f"last, {clock(group[-1].at_s)}")
        totals = sorted(sample.clock.total_ms for sample in group)
        half = percentile(totals, 50)
        whose = f" <small>{text(who)}</small>" if who else ""
        yield (
            f"<h2>Layers × tokens{whose}</h2><p class=muted>{count(len(group))} sampled tokens, the median one took "
            f"{text(duration(half))}.{shared} Times are upper bounds: the probe waits after each layer.</p>"
            f"<h3>Time <small>ms of each layer</small></h3>"
            f"{heat_map([sample.clock.ms for sample in group], names, _ms, 'Time by layer and token', axis)}"
        )
        yield from _page_ins([sample.clock for sample in group], names, axis)


_PAGE_INS = (
    ("Page-in", "bytes of each layer that came from disk during the token", "page_in_bytes"),
    ("Demand", "bytes that the computing threads read while the layer ran, and waited for", "demand_bytes"),
    ("Read-ahead", "bytes of the layer that the threads which stream the model read meanwhile", "read_ahead_bytes"),
)


def _page_ins(clocks: Sequence[LayerClock], names: tuple[str, ...], axis: tuple[str, str]) -> Iterable[str]:
    """What came from disk; who read it is drawn apart only where not all of it was demand."""
    maps = [[_sizes(getattr(clock, attribute), names) for clock in clocks] for _, _, attribute in _PAGE_INS]
    page_in, _, ahead = [any(value for column in columns for value in column) for columns in maps]
    for (title, what, _), columns in zip(_PAGE_INS, maps, strict=True):
        if not any(value for column in columns for value in column) or (title == "Demand" and page_in and not ahead):
            continue
        plot = heat_map(columns, names, _bytes, f"{title} by layer and token", axis)
        yield f"<h3>{title} <small>{what}</small></h3>{plot}"
    if page_in and not ahead and any(clock.demand_bytes for clock in clocks):
        yield "<p class=muted>The threads that compute read it themselves, when they touched what was not there.</p>"


def _sizes(sizes: Sequence[int], names: Sequence[str]) -> Sequence[Value]:
    return [float(value) for value in sizes] if len(sizes) == len(names) else [None] * len(names)


# ---- profiles -------------------------------------------------------------------------------------------------------


def _profiles(summary: Summary) -> str:
    """The last few flame graphs and operator profiles; nothing where none was taken."""
    if not summary.stacks and not summary.operators:
        return ""
    parts = [flame_section(at_s, stacks) for at_s, stacks in summary.stacks[-_MOST_PROFILES:]]
    parts += [operators_section(at_s, operators) for at_s, operators in summary.operators[-_MOST_PROFILES:]]
    left = max(0, len(summary.stacks) - _MOST_PROFILES) + max(0, len(summary.operators) - _MOST_PROFILES)
    more = f"<p class=muted>{count(left)} earlier ones are in the tables (--csv) only.</p>" if left else ""
    return f"<h2>Profiles</h2>{''.join(parts)}{more}"


# ---- over time ------------------------------------------------------------------------------------------------------


def _subject(subject: Subject) -> str:
    samples = subject.samples
    times = [sample.at_s for sample in samples]
    parts = [f"<h2>{text(subject.title)} <small>{count(len(samples))} readings</small></h2>"]
    parts.append(_verdict(subject.verdict, "This process"))
    parts.append(
        _plot("Page-in", "read from disk", times, samples, [("page-in", 1, "page_in_bytes_s")], rate)
        + _plot("Stalls", "major page faults a second", times, samples, [("stalls", 2, "stalls_s")], significant)
        + _plot(
            "Memory",
            "of the process, and what is available on the box",
            times,
            samples,
            [
                ("file pages", 1, "file_bytes"),
                ("private", 2, "anon_bytes"),
                ("available on the box", 3, "available_bytes"),
            ],
            _bytes,
        )
        + _plot(
            "VRAM",
            "of all devices",
            times,
            samples,
            [("used", 1, "vram_used_bytes"), ("ours", 2, "vram_ours_bytes")],
            _bytes,
        )
        + _plot("Decode", "as the server says", times, samples, [("tokens a second", 3, "decode_rate")], significant)
        + _plot("Power", "of all devices, W", times, samples, [("power", 2, "power_w")], significant)
        + _plot(
            "Pressure",
            "time in which something waited for the disk",
            times,
            samples,
            [("io", 4, "io_pressure_pct")],
            percent,
        )
    )
    parts.append(_residency(subject))
    return "".join(parts)


def _plot(
    title: str,
    what: str,
    times: Sequence[float],
    samples: Sequence[Sample],
    curves: Sequence[tuple[str, int, str]],
    label: Callable[[float], str],
) -> str:
    """A plot of those fields that were known at least once; a sentence where they never differed from zero."""
    all_curves = [
        Curve(name, colour, [getattr(sample, metric) for sample in samples]) for name, colour, metric in curves
    ]
    known = [curve for curve in all_curves if any(value is not None for value in curve.values)]
    if not known:
        return ""
    heading = f"<h3>{text(title)} <small>{text(what)}</small></h3>"
    if not any(value for curve in known for value in curve.values):
        return f"{heading}<p class=muted>0 at every reading.</p>"
    return heading + line_plot(times, known, label, title, scale=binary_ticks if label is _bytes else ticks)


def _residency(subject: Subject) -> str:
    rows = [row for row in subject.residency if row.names == subject.residency[-1].names]
    if not rows:
        return ""
    columns = [[None if share == UNKNOWN else share / 2.54 for share in row.shares] for row in rows]
    axis = (clock(rows[0].at_s), clock(rows[-1].at_s))
    plot = heat_map(columns, rows[0].names, percent, "Layers in RAM over time", axis, top=100.0)
    return f"<h3>Layers in RAM <small>share of each layer's bytes, by {text(subject.method)}</small></h3>{plot}"


def _left_out(subjects: Sequence[Subject]) -> str:
    if not subjects:
        return ""
    return f"<p class=muted>{len(subjects)} more processes are in the record; the tables (--csv) have them.</p>"


# ---- what went wrong, and the foot ----------------------------------------------------------------------------------


def _failures(summary: Summary) -> str:
    if not summary.failures:
        return ""
    rows = [(clock(at_s), f.what, f.why, f.next) for at_s, f in summary.failures[-_MOST_FAILURES:]]
    return f"<h2>Failures</h2>{table(('at', 'what', 'why', 'next'), rows, frozenset({0}))}"


def _foot(record: Record) -> str:
    return (
        "<footer><p>Questions, replies, system prompts, folders and the name of the machine are not on this page; what "
        "a failure said is, word by word. Of more readings than fit, lines show the highest of neighbours, maps the "
        "mean; <code>pagewise report --csv</code> writes them all. What each figure is made from: docs/numbers.md.</p>"
        f"<p>Made by pagewise {text(__version__)} from {text(record.path.name)}.</p></footer>"
    )


def _ms(value: float) -> str:
    return duration(value)


def _bytes(value: float) -> str:
    return size(round(value))

"""Everything about the last reply: why it was as fast as it was, step by step, and where its layers' time went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pagewise.app.felt import Felt
from pagewise.app.figures import count, duration, per_second, percent, rate, share, significant, size
from pagewise.app.gauges.layers import groups, heat
from pagewise.app.gauges.strip import merged
from pagewise.app.readout import Readout
from pagewise.app.spans import BLANK, Line, Span, clip, wrap
from pagewise.app.visible import visible_line
from pagewise.readings import LayerClock, TurnTiming, percentile

SHADES = "·░▒▓█"
_NAME = 8
_TOP = 95.0
"""The percentile that is fully dark: one stall must not make all the rest look alike."""
_BYTES = 11
"""Room for a figure of bytes."""
_SHORT = {"input": "in", "output": "out"}


def draw_details(readout: Readout, width: int) -> list[Line]:
    """The page."""
    clocks = list(readout.clocks)
    lines = [*_verdict(readout, width), *_timing(readout.timing, width, readout.felt), *_energy(readout, width)]
    lines += _roofline(readout, width)
    lines += [*_layers(clocks, width), *_page_ins(clocks, width), *_experts(clocks, width)]
    return [clip(one, width) for one in lines]


def _verdict(readout: Readout, width: int) -> list[Line]:
    verdict = readout.verdict
    if verdict is None:
        return [
            (("BOUND BY", "label"),),
            *wrap((("No reply has been judged since this model was loaded.", "muted"),), width),
        ]
    lines: list[Line] = [(("BOUND BY  ", "label"), (visible_line(verdict.bound_by), "strong accent"))]
    lines += wrap(((visible_line(verdict.why), "text"),), width)
    if verdict.advice:
        lines += wrap((("→ ", "accent"), (visible_line(verdict.advice), "text")), width, rest=2)
    if verdict.reasoning:
        lines += [BLANK, (("REASONING", "label"),)]
        for number, step in enumerate(verdict.reasoning, 1):
            lines += wrap(((f"{number:>2}  ", "muted"), (visible_line(step), "text")), width, rest=4)
    return lines


def _timing(timing: TurnTiming | None, width: int, felt: Felt | None = None) -> list[Line]:
    if timing is None:
        return []
    first = timing.first_sample_ms
    split = [
        ("queue", timing.queue_ms),
        ("template", timing.template_ms),
        ("prefill", timing.prefill_ms),
        ("first sample", first),
    ]
    lines: list[Line] = [BLANK, (("TTFT  ", "label"), (duration(timing.ttft_ms), "value"), ("  split:", "muted"))]
    for name, ms in split:
        part = share(ms, timing.ttft_ms)
        bar = "█" * round((part or 0.0) / 100 * max(min(width - 40, 40), 0))
        lines.append(
            (
                (f"  {name:<14}", "muted"),
                (f"{duration(ms):>10}", "text"),
                (f"{percent(part):>8}  ", "muted"),
                (bar, "accent"),
            )
        )
    evaluated = timing.n_prompt - timing.n_reused
    words = f"{count(evaluated)} of {count(timing.n_prompt)} prompt tokens evaluated, {per_second(timing.prefill_rate)}"
    if timing.reuse_note:
        words += f"; {visible_line(timing.reuse_note)}"
    lines += wrap(((f"  {words}.", "muted"),), width, rest=2)
    if felt is not None and felt.ms is not None:
        lines += _felt(felt, timing, width)
    speed = f"  {per_second(timing.decode_rate)}, {count(timing.n_output)} tokens at depth {count(timing.depth)}"
    lines += [BLANK, (("TPOT  ", "label"), (duration(timing.tpot_ms), "value"), (speed, "muted"))]
    gaps: list[Span] = [("  time between tokens  ", "muted")]
    for q in (50, 90, 95, 99, 100):
        name = "max" if q == 100 else f"p{q}"
        gaps += [(f"{name} ", "muted"), (f"{duration(timing.itl_percentile(q))}   ", "text")]
    lines += wrap(gaps, width, rest=2)
    probe_cost = None if timing.probe_cost_pct is None else max(timing.probe_cost_pct, 0.0)
    loop, probe = duration(timing.loop_cost_ms), percent(probe_cost)
    cold = "; the first reply after a load" if timing.cold else ""
    words = f"  outside llama.cpp {loop} a token; the layer clock cost {probe}{cold}."
    lines += wrap(((words, "muted"),), width, rest=2)
    return lines


def _felt(felt: Felt, timing: TurnTiming, width: int) -> list[Line]:
    """From Enter to the first text on the terminal."""
    parts = [
        f"engine {duration(timing.ttft_text_ms if timing.ttft_text_ms is not None else timing.ttft_ms)}",
        f"on the way {duration(felt.network_ms(timing))}",
        f"drawing {duration(felt.drawing_ms)}",
    ]
    if felt.waited_ms >= 1.0:
        parts.insert(0, f"waiting for its turn {duration(felt.waited_ms)}")
    words = f"  from Enter to text on the terminal: {', '.join(parts)}."
    return wrap((("  as felt  ", "label"), (duration(felt.ms), "value"), (words, "muted")), width, rest=2)


def _energy(readout: Readout, width: int) -> list[Line]:
    """Joules for a token, of the devices that hold the model; nothing where no device does."""
    energy = readout.energy
    if energy is None:
        why = visible_line(readout.why_no_energy)
        held = readout.model is not None and readout.model.offloaded_layers > 0
        return [BLANK, *wrap((("ENERGY  ", "label"), (f"n/a: {why}", "muted")), width, rest=2)] if why and held else []
    estimate = "" if energy.source == "energy counter" else ", an estimate"
    words = (
        f"  {significant(energy.joules)} J in {significant(energy.seconds)} s for {count(energy.tokens)} tokens, "
        f"by the devices' {energy.source}{estimate}; other programs on them are counted too."
    )
    figures: list[Span] = [("ENERGY  ", "label"), (f"{significant(energy.per_token_j)} J/token", "value")]
    return [BLANK, *wrap((*figures, (words, "muted")), width, rest=2)]


def _roofline(readout: Readout, width: int) -> list[Line]:
    """What a token has to read, and how fast it was read; peaks and shares of them are in the reasoning."""
    model, timing = readout.model, readout.timing
    if model is None or timing is None or timing.tpot_ms is None:
        return []
    depth = ((timing.depth or timing.kv_used) + timing.kv_used) // 2
    kv = model.kv_bytes_per_token * depth
    speed = rate((model.bytes_per_token + kv) / timing.tpot_ms * 1000)
    title: Line = (("ROOFLINE  ", "label"), (speed, "value"), ("  over the whole token", "muted"))
    words = (
        f"  weights {size(model.bytes_per_token)} and KV {size(kv)} at depth {count(depth)} are read for each token."
    )
    lines = [BLANK, title, *wrap(((words, "muted"),), width, rest=2)]
    if readout.clock is not None:
        spans: list[Span] = [("  last probed token: ", "muted")]
        for run in groups(readout.clock):
            part = percent(share(run.ms, readout.clock.total_ms))
            spans += [(f"{visible_line(run.device)} ", "muted"), (f"{duration(run.ms)}, {part}   ", "text")]
        lines += wrap(spans, width, rest=2)
    return lines


def _layers(clocks: Sequence[LayerClock], width: int) -> list[Line]:
    """A row for each layer, the newest token at the right edge; the last columns are the mean and the device."""
    if not clocks:
        return [
            BLANK,
            (("LAYERS × TOKENS", "label"),),
            (("No token was probed since this model was loaded.", "muted"),),
        ]
    names = clocks[-1].names
    shown = [clock for clock in clocks if clock.names == names][-max(width - _NAME - 20, 1) :]
    top = percentile([ms for clock in shown for ms in clock.ms], _TOP) or 0.0
    title: Line = (
        ("LAYERS × TOKENS", "label"),
        (f"  {_tokens(len(shown))}, newest right; {SHADES[-1]} from {duration(0.8 * top)} on", "muted"),
    )
    lines: list[Line] = [BLANK, title]
    for index, name in enumerate(names):
        times = [clock.ms[index] for clock in shown]
        mean = sum(times) / len(times)
        cells: list[Span] = [(f"{_SHORT.get(name, name):>{_NAME - 2}}  ", "muted")]
        cells += [(SHADES[int(heat(ms, top)[4:])], heat(ms, top)) for ms in times]
        cells.append((f"  {duration(mean):>9} {visible_line(shown[-1].devices[index])}", "muted"))
        lines.append(merged(cells))
    return lines


def _page_ins(clocks: Sequence[LayerClock], width: int) -> list[Line]:
    """The same for what came from disk; nothing where nothing did. A token that was not counted is ``?``."""
    names = clocks[-1].names if clocks else ()
    shown = [clock for clock in clocks if clock.names == names][-max(width - _NAME - 2 * _BYTES, 1) :]
    columns = [_came(clock) for clock in shown]
    top = percentile([float(came) for column in columns for came in column or () if came], _TOP)
    if top is None:
        return []
    split = [clock for clock in shown if clock.demand_bytes and clock.read_ahead_bytes]
    words = f"  {_tokens(len(shown))}; {SHADES[-1]} from {size(round(0.8 * top))} on; means of demand, read-ahead"
    lines: list[Line] = [BLANK, (("PAGE-IN × TOKENS", "label"), (words, "muted"))]
    for index, name in enumerate(names):
        cells: list[Span] = [(f"{_SHORT.get(name, name):>{_NAME - 2}}  ", "muted")]
        for column in columns:
            came = column[index] if column else None
            dark = (SHADES[int(heat(came, top)[4:])], heat(came, top)) if came else (" ", "faint")
            cells.append(("?", "faint") if came is None else dark)
        for values in ([clock.demand_bytes for clock in split], [clock.read_ahead_bytes for clock in split]):
            mean = round(sum(one[index] for one in values) / len(values)) if values else None
            cells.append((f"{size(mean):>{_BYTES}}", "muted"))
        lines.append(merged(cells))
    return lines


def _came(clock: LayerClock) -> tuple[int, ...]:
    """Bytes of each layer that came from disk: by its pages where they were counted, else by what was read."""
    if clock.page_in_bytes or not clock.demand_bytes:
        return clock.page_in_bytes
    return tuple(map(sum, zip(clock.demand_bytes, clock.read_ahead_bytes, strict=True)))


def _tokens(n: int) -> str:
    return f"{count(n)} probed token{'' if n == 1 else 's'}"


def _experts(clocks: Sequence[LayerClock], width: int) -> list[Line]:
    """A row for each layer with a router, a cell for each expert (or for several), by how often it was chosen."""
    routed = [clock for clock in clocks if clock.n_expert and clock.experts]
    if not routed:
        return []
    names, n_expert = routed[-1].names, routed[-1].n_expert
    routed = [clock for clock in routed if clock.names == names and clock.n_expert == n_expert]
    room = max(width - _NAME - 18, 1)
    each = -(-n_expert // room)
    cells_n = -(-n_expert // each)
    per_cell = f", {each} a cell" if each > 1 else ""
    title: Line = (
        ("EXPERTS", "label"),
        (f"  in {_tokens(len(routed))}; {count(n_expert)} a layer{per_cell}", "muted"),
    )
    lines: list[Line] = [BLANK, title]
    for index, name in enumerate(names):
        chosen = Counter(expert for clock in routed for expert in clock.experts[index])
        if not chosen:
            continue
        uses = [sum(chosen[cell * each + offset] for offset in range(each)) for cell in range(cells_n)]
        top = max(uses)
        row: list[Span] = [(f"{name:>{_NAME - 2}}  ", "muted")]
        row += [
            (" " if not use else SHADES[int(heat(use, top)[4:])], heat(use, top) if use else "faint") for use in uses
        ]
        row.append((f"  {count(len(chosen))} of {count(n_expert)} used", "muted"))
        lines.append(merged(row))
    return lines

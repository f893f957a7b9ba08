"""The figures of a record as CSV files, for programs of the reader's own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from pagewise.app.profiler.flame import parse_folded
from pagewise.app.visible import visible_line
from pagewise.record.report.flame import public
from pagewise.record.report.summary import UNKNOWN, Sample, Summary

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

SAMPLES = ("process", *Sample._fields)
TURNS = (
    "turn", "at_s", "model", "end", "cold", "n_prompt", "n_reused", "n_output", "depth", "queue_ms", "template_ms",
    "prefill_ms", "ttft_ms", "ttft_text_ms", "tpot_ms", "itl_p50_ms", "itl_p95_ms", "prefill_rate", "decode_rate",
    "bound_by",
)  # fmt: skip
TOKENS = ("at_s", "turn", "n_output", "kv_used", "step_ms", "profiled")
LAYERS = (
    "at_s", "turn", "token", "layer", "device", "ms", "page_in_bytes", "stalls", "demand_bytes", "read_ahead_bytes",
)  # fmt: skip
RESIDENCY = ("process", "at_s", "layer", "share")
STACKS = ("at_s", "program", "pid", "tool", "rate_hz", "samples", "stack")
OPERATORS = ("at_s", "token", "depth", "layer", "operator", "name", "device", "tensor", "type", "bytes", "ms")


def tables(summary: Summary) -> dict[str, str]:
    """File names and their text. An empty cell: not known. Times are seconds since the start of the record."""
    return {
        "samples.csv": _text(SAMPLES, _samples(summary)),
        "turns.csv": _text(TURNS, _turns(summary)),
        "tokens.csv": _text(TOKENS, summary.gaps),
        "layers.csv": _text(LAYERS, _layers(summary)),
        "residency.csv": _text(RESIDENCY, _residency(summary)),
        "stacks.csv": _text(STACKS, _stacks(summary)),
        "operators.csv": _text(OPERATORS, _operators(summary)),
    }


def _samples(summary: Summary) -> Iterable[Sequence[object]]:
    for subject in summary.subjects:
        for sample in subject.samples:
            yield (subject.title, *sample)


def _turns(summary: Summary) -> Iterable[Sequence[object]]:
    for turn in summary.turns:
        timing = turn.timing
        bound_by = turn.verdict.bound_by if turn.verdict is not None else None
        if timing is None:
            yield (turn.id, turn.at_s, turn.model, turn.reason, *[None] * (len(TURNS) - 5), bound_by)
            continue
        yield (
            turn.id,
            turn.at_s,
            turn.model,
            turn.reason,
            int(timing.cold),
            timing.n_prompt,
            timing.n_reused,
            timing.n_output,
            timing.depth,
            timing.queue_ms,
            timing.template_ms,
            timing.prefill_ms,
            timing.ttft_ms,
            timing.ttft_text_ms,
            timing.tpot_ms,
            timing.itl_percentile(50),
            timing.itl_percentile(95),
            timing.prefill_rate,
            timing.decode_rate,
            bound_by,
        )


def _layers(summary: Summary) -> Iterable[Sequence[object]]:
    for at_s, turn, clock, _ in summary.clocks:
        for index, name in enumerate(clock.names):
            yield (
                at_s,
                turn,
                clock.token,
                name,
                _at(clock.devices, index),
                _at(clock.ms, index),
                _at(clock.page_in_bytes, index),
                _at(clock.stalls, index),
                _at(clock.demand_bytes, index),
                _at(clock.read_ahead_bytes, index),
            )


def _residency(summary: Summary) -> Iterable[Sequence[object]]:
    for subject in summary.subjects:
        for row in subject.residency:
            for name, share in zip(row.names, row.shares, strict=True):
                yield subject.title, row.at_s, name, None if share == UNKNOWN else round(share / 254, 3)


def _stacks(summary: Summary) -> Iterable[Sequence[object]]:
    for at_s, profile in summary.stacks:
        for stack in parse_folded(profile.folded):
            frames = ";".join(public(frame) for frame in stack.frames)
            yield at_s, profile.program, profile.pid, profile.tool, profile.rate_hz, stack.count, frames


def _operators(summary: Summary) -> Iterable[Sequence[object]]:
    for at_s, profile in summary.operators:
        for node in profile.nodes:
            of = (node.layer, node.operator, node.name, node.device, node.tensor, node.type, node.bytes, node.ms)
            yield at_s, profile.token, profile.depth, *of


def _at(values: Sequence[object], index: int) -> object:
    return values[index] if index < len(values) else None


def _text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: object) -> object:
    """Text from models and files must not act on a terminal, nor become a formula in whoever's spreadsheet."""
    if isinstance(value, str):
        return "'" + visible_line(value) if value.startswith(_FORMULA) else visible_line(value)
    return round(value, 6) if isinstance(value, float) else value

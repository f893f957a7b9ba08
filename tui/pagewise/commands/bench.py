"""``pagewise bench``: the rates of one or more profiles, measured apart from any conversation."""

from __future__ import annotations

import sys
from typing import Literal

import msgspec

from pagewise.app.figures import duration
from pagewise.app.visible import visible_line
from pagewise.bench.formats import as_csv, as_markdown, as_records, table
from pagewise.bench.workload import context_for, workload
from pagewise.commands.job import FAILED, ask_host
from pagewise.commands.output import as_json
from pagewise.commands.problem import report
from pagewise.jobs.bench import Bench, Benched
from pagewise.messages import Failure
from pagewise.settings import Profile

Format = Literal["table", "json", "markdown", "csv"]
_NOTHING = Failure(
    "There is nothing to measure",
    "Prompts and outputs are all of 0 tokens, or no depth is given.",
    "Give a length above 0: -p 512 -n 128.",
)


def run(
    profiles: tuple[Profile, ...],
    prompts: tuple[int, ...],
    outputs: tuple[int, ...],
    depths: tuple[int, ...],
    repetitions: int,
    cold: bool,
    format: Format,
) -> int:
    """Measure, write the result to standard output, and return the exit status."""
    tests = workload(prompts, outputs, depths)
    if not tests:
        report(_NOTHING)
        return FAILED
    needed = context_for(tests)
    fitted = tuple(_with_room(profile, needed) for profile in profiles)
    answer = ask_host(lambda id: Bench(id, fitted, tests, repetitions, cold), Benched)
    if isinstance(answer, int):
        return answer
    sys.stdout.write(_written(answer, format))
    if format in ("json", "csv"):
        for note in answer.notes:
            print(f"! {visible_line(note)}", file=sys.stderr)
    return 0 if len(answer.rows) == len(profiles) * len(tests) else FAILED


def _with_room(profile: Profile, needed: int) -> Profile:
    """The tests decide how much context is needed, not the profile: llama-bench does it alike."""
    return msgspec.structs.replace(profile, n_ctx=needed, n_batch=min(profile.n_batch, needed))


def _written(result: Benched, format: Format) -> str:
    if format == "json":
        return as_json(as_records(result)) + "\n"
    if format == "csv":
        return as_csv(result)
    if format == "markdown":
        return as_markdown(result)
    return _table(result)


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count != 1)


def _table(result: Benched) -> str:
    head, cells = table(result)
    rows = [head, *([visible_line(cell) for cell in row] for row in cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = 3
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * max(map(len, lines)))
    lines.append("")
    for model in result.models:
        cold = model.cold_first_token_ms
        lines.append(
            f"{visible_line(model.profile.name)}: loaded in {duration(model.load_ms)}"
            + (f", {duration(cold)} from disk to the first token" if cold is not None else "")
            + f"; {_threads(model.threads)}, {model.threads_batch} for prefill, "
            f"batch {model.n_batch}/{model.n_ubatch}, KV {model.profile.cache_type_k}/{model.profile.cache_type_v}, "
            f"flash attention {'on' if model.flash_attention else 'off'}, {model.offloaded_layers} layers on GPU"
        )
    lines.append(f"{visible_line(result.cpu)}; llama.cpp {visible_line(result.llama_cpp)}")
    lines += [f"! {visible_line(note)}" for note in result.notes]
    return "\n".join(lines) + "\n"

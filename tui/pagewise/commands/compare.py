"""``pagewise compare``: models side by side, the table that decides a quant level."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import msgspec

from pagewise.app.figures import NOT_KNOWN, count, duration, per_second, percent, size
from pagewise.app.visible import visible, visible_line
from pagewise.commands.job import ask_host
from pagewise.commands.output import as_json
from pagewise.commands.problem import block
from pagewise.jobs.base import JobProgress
from pagewise.jobs.compare import ComparedModel, CompareModels, ModelsCompared
from pagewise.messages import Event
from pagewise.settings import Profile

_LABEL = 17
_COLUMN = 20
_GAP = 3
_NARROWEST = 30
"""Columns of text narrower than this are harder to read than one below the other."""
_WORTH_TELLING = 256 * 1024 * 1024
_REFERENCE = "reference"
Cell = Callable[[ComparedModel], str]


def letters(n: int) -> tuple[str, ...]:
    """A, B, … Z, 27, 28, …: what the models of one comparison are called."""
    return tuple(chr(ord("A") + index) if index < 26 else str(index + 1) for index in range(n))


def run(request: CompareModels, json: bool) -> int:
    """Measure, write the table, and return the exit status. The request's id is of no account."""
    answer = ask_host(lambda id: msgspec.structs.replace(request, id=id), ModelsCompared, _tell_size)
    if isinstance(answer, int):
        return answer
    if json:
        print(as_json(answer))
    else:
        print("\n".join(lines(answer, shutil.get_terminal_size((80, 24)).columns)))
    return 1 if any(model.failure is not None for model in answer.models) else 0


def _tell_size(event: Event) -> None:
    match event:
        case JobProgress(phase=phase, total=total) if phase.endswith("predictions on disk") and total > _WORTH_TELLING:
            print(f"\r\x1b[K{visible_line(phase)}: {size(total)} until the end", file=sys.stderr)


def named(argument: str) -> tuple[str | None, str | None]:
    """(profile, model) that an argument means: a file if it looks like one, else a profile."""
    is_file = "/" in argument or argument.startswith("~") or argument.lower().endswith(".gguf")
    return (None, argument) if is_file else (argument, None)


def lines(answer: ModelsCompared, width: int) -> list[str]:
    """What a person reads, at most ``width`` wide where that is possible."""
    models = answer.models
    per_block = max(1, (width - _LABEL) // _COLUMN)
    written = [_clipped(f"{model.label}  {visible_line(_source(model))}", width) for model in models]
    for start in range(0, len(models), per_block):
        written += ["", *_table(models[start : start + per_block], models[0])]
    for model in models:
        if model.failure is not None:
            written += ["", f"{model.label} could not be measured", *visible(block(model.failure)).splitlines()]
    for remark in _remarks(answer):
        written += ["", *textwrap.wrap(remark, width)]
    written += ["", *textwrap.wrap(f"» {visible_line(answer.prompt)}", width), "", *_answers(models, width)]
    return written


def _clipped(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width // 2]}…{line[len(line) - (width - width // 2) + 1 :]}"


def _source(model: ComparedModel) -> str:
    name = model.path.rpartition("/")[2] or model.profile.model
    profile = model.profile
    return name if profile.name == Path(name).stem else f"{profile.name} ({name})"


def _table(models: tuple[ComparedModel, ...], reference: ComparedModel) -> list[str]:
    rows = [("", [f"{model.label}  {model.level}".rstrip() for model in models])]
    rows += [(label, [cell(model) for model in models]) for label, cell in _costs(reference)]
    rows += [(device, [_held(model, device) for model in models]) for device in _devices(models)]
    rows += [(label, [_compared(cell, model, reference) for model in models]) for label, cell in _quality(reference)]
    return [
        f"{label:<{_LABEL}}{''.join(f'{visible_line(cell):>{_COLUMN}}' for cell in cells)}".rstrip()
        for label, cells in rows
        if any(cell not in (NOT_KNOWN, _REFERENCE) for cell in cells)
    ]


def _costs(reference: ComparedModel) -> list[tuple[str, Cell]]:
    return [
        ("size", lambda model: _of(model, reference)),
        ("bits per weight", _bits),
        ("load", lambda model: duration(model.load_ms)),
        ("  cached before", lambda model: percent(None if model.cached is None else 100 * model.cached)),
        ("first token", lambda model: duration(model.ttft_ms)),
        ("prefill", lambda model: per_second(model.prefill_rate)),
        ("decode", lambda model: per_second(model.decode_rate)),
    ]


def _quality(reference: ComparedModel) -> list[tuple[str, Cell]]:
    return [
        ("perplexity", _perplexity),
        (f"  against {reference.label}", _ratio),
        ("KL divergence", _kl),
        ("same top token", _same_top),
        ("same answer", lambda model: _same_answer(model, reference)),
    ]


def _compared(cell: Cell, model: ComparedModel, reference: ComparedModel) -> str:
    return _REFERENCE if model is reference and cell is not _perplexity else cell(model)


def _bits(model: ComparedModel) -> str:
    return NOT_KNOWN if model.bits_per_weight is None else f"{model.bits_per_weight:.2f}"


def _of(model: ComparedModel, reference: ComparedModel) -> str:
    if model.file_bytes is None:
        return NOT_KNOWN
    share = f" ({100 * model.file_bytes / reference.file_bytes:.0f} %)" if reference.file_bytes else ""
    return f"{size(model.file_bytes)}{share if model is not reference else ''}"


def _held(model: ComparedModel, device: str) -> str:
    held = next((held for held in model.memory if held.device == device), None)
    return NOT_KNOWN if held is None else size(held.bytes)


def _devices(models: tuple[ComparedModel, ...]) -> list[str]:
    return list(dict.fromkeys(held.device for model in models for held in model.memory))


def _perplexity(model: ComparedModel) -> str:
    quality = model.quality
    return NOT_KNOWN if quality is None else _with_error(quality.perplexity, quality.error)


def _ratio(model: ComparedModel) -> str:
    divergence = model.quality.divergence if model.quality is not None else None
    if divergence is None:
        return NOT_KNOWN
    return f"{100 * (divergence.ppl_ratio - 1):+.2f} ±{100 * divergence.ppl_ratio_error:.2f} %"


def _kl(model: ComparedModel) -> str:
    divergence = model.quality.divergence if model.quality is not None else None
    return NOT_KNOWN if divergence is None else _with_error(divergence.kl, divergence.kl_error)


def _same_top(model: ComparedModel) -> str:
    divergence = model.quality.divergence if model.quality is not None else None
    if divergence is None:
        return NOT_KNOWN
    return f"{100 * divergence.same_top:.1f} ±{100 * divergence.same_top_error:.1f} %"


def _same_answer(model: ComparedModel, reference: ComparedModel) -> str:
    if model.same_answer is None:
        return NOT_KNOWN
    if model.same_answer == model.n_answer == reference.n_answer:
        return "all of it"
    return f"{count(model.same_answer)} of {count(model.n_answer)} tokens"


def _with_error(value: float, error: float) -> str:
    """With two digits of the error, as many as mean something."""
    digits = next((n for n in range(6) if error * 10**n >= 10), 6) if error > 0 else 4
    return f"{value:.{digits}f} ±{error:.{digits}f}"


def _remarks(answer: ModelsCompared) -> list[str]:
    first = answer.models[0]
    said: list[str] = []
    if first.quality is not None:
        quality = first.quality
        said.append(
            f"{visible_line(answer.text.rpartition('/')[2])}: {count(quality.chunks)} chunks of {count(quality.n_ctx)} "
            f"tokens, {count(quality.scored)} tokens scored in each model."
        )
    elif first.why_no_quality:
        said.append(f"Perplexity and divergence are not known. {visible_line(first.why_no_quality)}")
    for model in answer.models[1:]:
        if model.quality is None and model.why_no_quality and model.why_no_quality != first.why_no_quality:
            said.append(f"{model.label}: perplexity is not known. {visible_line(model.why_no_quality)}")
        elif model.quality is not None and model.quality.divergence is None and model.quality.why_no_divergence:
            said.append(
                f"{model.label}: {visible_line(model.quality.why_no_divergence)} Divergence is not defined, and "
                "perplexities of different tokens cannot be compared."
            )
    return said


def _answers(models: tuple[ComparedModel, ...], width: int) -> list[str]:
    """Beside one another where each gets a readable width, else one below the other."""
    answered = [model for model in models if model.failure is None]
    column = (width - _GAP * (len(answered) - 1)) // max(1, len(answered))
    if len(answered) > 1 and column >= _NARROWEST:
        texts = [[model.label, *_wrapped(model, column)] for model in answered]
        height = max(map(len, texts))
        padded = [text + [""] * (height - len(text)) for text in texts]
        return [(" " * _GAP).join(f"{part:<{column}}" for part in row).rstrip() for row in zip(*padded, strict=True)]
    return [line for model in answered for line in (model.label, *_wrapped(model, width), "")]


def _wrapped(model: ComparedModel, width: int) -> list[str]:
    lines = visible(model.answer).strip().splitlines() or ["(nothing)"]
    return [piece for line in lines for piece in (textwrap.wrap(line, width) or [""])]


def request_for(
    profiles: tuple[Profile, ...], text: Path | None, prompt: str | None, n_ctx: int, chunks: int, max_tokens: int
) -> CompareModels:
    """The comparison of these profiles, the first being the reference."""
    request = CompareModels(
        id=0,
        profiles=profiles,
        labels=letters(len(profiles)),
        text=str(text.absolute()) if text is not None else "",
        n_ctx=n_ctx,
        chunks=chunks,
        max_tokens=max_tokens,
    )
    return request if prompt is None else msgspec.structs.replace(request, prompt=prompt)

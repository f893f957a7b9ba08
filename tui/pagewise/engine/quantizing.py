"""The job of making a quant level: checked, predicted, made, and told of while it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.imatrix import check_imatrix, load_imatrix
from pagewise.engine.llamacpp.quantize import Prediction, Progress, Recipe, make, predict, recipe_for
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.quantize import LevelBytes, Quantize, Quantized, RoundingError
from pagewise.models.gguf import Tensor, printable
from pagewise.models.level_files import level_of
from pagewise.models.rounding import Step, errors

MARGIN_BYTES = 1024 * 1024
"""Room for what a file system keeps beside a file's bytes."""
_COARSE = 0.01
"""A source whose weights are off by more than this passes an error on that one would see: Q8_0 is below, Q6_K above."""
_SHOWS = 1.01
"""Of the error of the level itself: less than this more is not worth a word."""


Send = Callable[[JobProgress | JobFailed], None]


def quantized(request: Quantize, send: Send) -> Quantized:
    """Do it, or with ``dry_run`` say what it would come to. ``request.target`` must be given. Raises Failed."""
    began = time.perf_counter()
    send(JobProgress(request.id, "header", 0, 0))
    target = Path(request.target)
    if target.exists():
        raise Failed(
            f"{printable(target.name)} is there already",
            f"{printable(str(target))} would be replaced.",
            "Give another name with --out, or remove the file first.",
        )
    imatrix = load_imatrix(Path(request.imatrix)) if request.imatrix else None
    recipe = recipe_for(Path(request.source), request.level, imatrix, threads=request.threads, pure=request.pure)
    prediction = predict(recipe)
    notes = []
    if imatrix is not None:
        changed = [tensor for tensor in recipe.tensors if prediction.types[tensor.name] != tensor.type]
        notes.append(check_imatrix(imatrix, changed))
    answer = _answer(request, recipe, prediction, target, notes)
    if not request.dry_run:
        _allowed(request, answer)
        _make(request, recipe, prediction, target, send)
    return msgspec.structs.replace(answer, dry_run=request.dry_run, seconds=time.perf_counter() - began)


def _answer(request: Quantize, recipe: Recipe, prediction: Prediction, target: Path, notes: list[str]) -> Quantized:
    tensors = recipe.tensors
    weights = sum(tensor.n_weights for tensor in tensors)
    stored = sum(prediction.tensor_bytes(tensor) for tensor in tensors)
    error = _error(tensors, prediction)
    first = recipe.source[0]
    source_bytes = sum(part.file_bytes for part in recipe.source)
    cost = _cost(error, level_of(first), grows=prediction.bytes >= source_bytes)
    notes.append(cost)
    needs_imatrix = prediction.needs_imatrix and recipe.imatrix is None
    if needs_imatrix:
        notes.append(f"{recipe.level} cannot be made without an importance matrix (--imatrix FILE).")
    return Quantized(
        id=request.id,
        path=str(target),
        source=str(first.path),
        source_level=level_of(first),
        level=recipe.level,
        source_bytes=source_bytes,
        bytes=prediction.bytes,
        bits_per_weight=8 * stored / weights if weights else 0.0,
        types=_types(tensors, prediction),
        error=error,
        free_bytes=free_bytes(target.parent),
        needs_imatrix=needs_imatrix,
        needs_permission=bool(cost),
        notes=tuple(note for note in notes if note),
    )


def _error(tensors: list[Tensor], prediction: Prediction) -> RoundingError:
    steps = (Step(tensor.n_weights, tensor.type.name, prediction.types[tensor.name].name) for tensor in tensors)
    return RoundingError(*errors(steps))


def _cost(error: RoundingError, source: str, *, grows: bool) -> str:
    """What it costs to begin from a coarse source, in a sentence; nothing for a source that is fine enough."""
    if error.source <= _COARSE or error.result <= _SHOWS * error.direct:
        return ""
    if grows:
        return (
            f"The source is {source} already: the result would be no smaller, and no better either, because what was "
            f"rounded off stays off (about {100 * error.source:.1f} % of the weights' size)."
        )
    return (
        f"The source is {source} already, and its error stays in the result: the weights would be off by about "
        f"{100 * error.result:.1f} %; made from F16 they would be by {100 * error.direct:.1f} %."
    )


def _types(tensors: list[Tensor], prediction: Prediction) -> tuple[LevelBytes, ...]:
    found: dict[str, tuple[int, int]] = {}
    for tensor in tensors:
        kind = prediction.types[tensor.name].name
        n, size = found.get(kind, (0, 0))
        found[kind] = (n + 1, size + prediction.tensor_bytes(tensor))
    shares = (LevelBytes(kind, n, size) for kind, (n, size) in found.items())
    return tuple(sorted(shares, key=lambda share: (-share.bytes, share.type)))


def _allowed(request: Quantize, answer: Quantized) -> None:
    if answer.needs_imatrix:
        raise Failed(
            f"{answer.level} needs an importance matrix",
            "At so few bits llama.cpp must know which weights matter, or the result would be garbage.",
            "Give one with --imatrix FILE, or choose a level that needs none, such as Q3_K_M.",
        )
    if answer.needs_permission and not request.allow_requantize:
        raise Failed(
            f"{printable(Path(answer.source).name)} is too coarse to make {answer.level} of it unasked",
            _cost(answer.error, answer.source_level, grows=answer.bytes >= answer.source_bytes),
            "Begin from F16, BF16 or Q8_0 if there is one; else go on with --allow-requantize.",
        )
    if answer.free_bytes is not None and answer.bytes + MARGIN_BYTES > answer.free_bytes:
        raise _no_room(Path(answer.path), answer.bytes, answer.free_bytes)


def _make(request: Quantize, recipe: Recipe, prediction: Prediction, target: Path, send: Send) -> None:
    shortage: Failed | None = None

    def progress(step: Progress) -> None:
        nonlocal shortage
        free = free_bytes(target.parent)
        left = prediction.bytes - step.done
        if shortage is None and free is not None and left > free:
            # llama.cpp does not notice and cannot be stopped: told at once, the host ends this process.
            shortage = _no_room(target, left, free)
            send(JobFailed(request.id, shortage.failure))
        if shortage is None:
            detail = f"{step.number} of {step.tensors} {step.tensor}" if step.tensor else ""
            send(JobProgress(request.id, "quantizing", step.done, prediction.bytes, "bytes", detail))

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        make(recipe, prediction, target, progress)
    except OSError as error:
        raise Failed(
            f"{printable(target.name)} could not be written",
            f"The system says: {error.strerror or error}: {printable(str(target.parent))}.",
            "Choose a folder that can be written to with --out, or make room on the disk.",
        ) from error
    if shortage is not None:
        raise shortage


def _no_room(target: Path, needed: int, free: int) -> Failed:
    return Failed(
        f"There is no room for {printable(target.name)}",
        f"It needs {_amount(needed)}; {printable(str(target.parent))} has {_amount(free)} free.",
        "Make room, or choose a folder on another disk with --out.",
    )


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def free_bytes(folder: Path) -> int | None:
    """Bytes that a person may still write where ``folder`` is or will be; None where the system does not say."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize

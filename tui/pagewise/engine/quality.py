"""The job of measuring how well a model predicts a text, and how far it is from another one that has done so."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from pagewise.engine.channel import Interrupt
from pagewise.engine.failures import Cancelled, Failed
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.decode import Aborted, ContextFull, Sequence
from pagewise.engine.llamacpp.logits_file import Extent, LogitsReader, LogitsWriter
from pagewise.engine.llamacpp.pieces import Grain, PieceSize
from pagewise.engine.llamacpp.scores import Scores
from pagewise.engine.quantizing import free_bytes
from pagewise.engine.running import Running
from pagewise.jobs.base import JobProgress
from pagewise.jobs.compare import MeasureQuality, Quality, QualityMeasured
from pagewise.models.gguf import printable

MAX_TEXT = 256 * 1024 * 1024
_GB = 1e9


def measure_quality(
    running: Running, request: MeasureQuality, interrupt: Interrupt, send: Callable[[JobProgress], None]
) -> QualityMeasured:
    """By llama-perplexity's method: chunks of ``n_ctx`` tokens, each begun anew, of which the second half is scored.

    The context in force is let go of, and there is none afterwards. Raises Failed and Cancelled.
    """
    text = _text(Path(request.text), running, request.n_ctx)
    chunks = len(text.ids) // request.n_ctx
    extent = Extent(
        request.n_ctx, running.model.vocabulary.n_tokens, min(request.chunks, chunks) if request.chunks else chunks
    )
    try:
        with ExitStack() as stack:
            writer, reader, why = _logits(request, extent, text, send, stack)
            measuring = _Measuring(running, request, extent, interrupt, stack)
            scores = Scores(extent, text.ids, writer, reader)
            began = time.perf_counter()
            for chunk in range(extent.chunks):
                detail = f"perplexity {scores.perplexity.value:.4f} so far" if chunk else ""
                send(JobProgress(request.id, "perplexity", chunk, extent.chunks, detail=detail))
                scores.take(chunk, measuring.evaluate(text.ids, chunk))
            seconds = time.perf_counter() - began
    except OSError as error:
        raise Failed(
            "The predictions could not be kept",
            f"The system says: {error.strerror or error}.",
            "Make room in the user's cache folder, or take fewer chunks with --chunks.",
        ) from error
    estimate = scores.perplexity
    if not math.isfinite(estimate.value):
        raise Failed(
            "The model's predictions are no numbers",
            "Some of its logits are infinite or undefined.",
            "The file may be damaged: fetch or quantize it again.",
        )
    return QualityMeasured(
        request.id,
        Quality(
            n_ctx=request.n_ctx,
            chunks=extent.chunks,
            tokens=len(text.ids),
            scored=extent.chunks * extent.rows,
            perplexity=estimate.value,
            error=estimate.error,
            seconds=seconds,
            divergence=scores.divergence,
            why_no_divergence=why,
        ),
    )


class _Text(NamedTuple):
    name: str
    ids: list[int]


def _text(path: Path, running: Running, n_ctx: int) -> _Text:
    name = printable(path.name)
    vocabulary = running.model.vocabulary
    trained = running.model.n_ctx_train
    if vocabulary.add_eos:
        raise Failed(
            "Perplexity is not defined here",
            "The model's tokenizer ends every text by itself, which llama-perplexity does not allow either.",
            "Compare it by its answers.",
        )
    if 0 < trained < n_ctx:
        raise Failed(
            f"Chunks of {n_ctx:,} tokens are too long for this model",
            f"It was trained for {trained:,} tokens of context.",
            f"Take --ctx {trained} or less.",
        )
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_TEXT else None
    except OSError as error:
        raise Failed(f"{name} cannot be read", f"The system says: {error.strerror or error}.", "Check it.") from error
    if raw is None:
        raise Failed(f"{name} is too long", f"It has more than {MAX_TEXT:,} bytes.", "Take a part of it (head -c).")
    # llama-perplexity's --file takes the last line end away.
    ids = vocabulary.tokenize_document(raw[:-1] if raw.endswith(b"\n") else raw)
    if len(ids) < 2 * n_ctx:
        raise Failed(
            f"{name} is too short",
            f"It is {len(ids):,} tokens for this model; two chunks of {n_ctx:,} are the least.",
            f"Take a longer text, or --ctx {max(8, len(ids) // 2)} or less.",
        )
    return _Text(name, ids)


def _logits(
    request: MeasureQuality, extent: Extent, text: _Text, send: Callable[[JobProgress], None], stack: ExitStack
) -> tuple[LogitsWriter | None, LogitsReader | None, str]:
    """Where the predictions go to, or where those of the reference come from, or why they cannot be compared."""
    if not request.logits:
        return None, None, ""
    path = Path(request.logits)
    if request.is_reference:
        free = free_bytes(path)
        send(JobProgress(request.id, "predictions on disk", 0, extent.bytes, "bytes"))
        if free is not None and extent.bytes > free:
            raise Failed(
                "There is no room for the reference's predictions",
                f"They take {extent.bytes / _GB:.1f} GB; the disk of the user's cache folder has {free / _GB:.1f} GB.",
                f"Take fewer chunks than {extent.chunks:,} with --chunks, or make room.",
            )
        return stack.enter_context(LogitsWriter(path, extent, text.ids)), None, "It is the reference."
    reader = LogitsReader(path)
    if not reader.is_of(extent, text.ids):
        return None, None, "Its vocabulary is another one: the text comes to other tokens than for the reference."
    return None, reader, ""


class _Measuring:
    """A context for chunks in place of the one in force."""

    def __init__(
        self, running: Running, request: MeasureQuality, extent: Extent, interrupt: Interrupt, stack: ExitStack
    ) -> None:
        n_ctx = extent.n_ctx
        profile = msgspec.structs.replace(
            running.profile, n_ctx=n_ctx, n_batch=n_ctx, n_ubatch=min(running.profile.n_ubatch, n_ctx)
        )
        streaming = running.streaming
        running.context.free()
        self._outputs = n_ctx - extent.first
        self._context = Context(
            running.model, profile, interrupt.flag, streaming.callback if streaming else None, self._outputs
        )
        stack.callback(self._context.free)
        running.adapters.set_on(self._context)
        if streaming is not None:
            streaming.attach(self._context)
        grain = Grain(share=1.0, weights=0)
        pieces = PieceSize(self._context.n_ubatch, grain, self._context.threads.batch, whole=lambda: True)
        self._sequence = Sequence(self._context, pieces, streaming)
        self._n_ctx = n_ctx
        self._interrupt = interrupt

    def evaluate(self, ids: list[int], chunk: int) -> Context:
        """The context, once it has evaluated the chunk."""
        tokens = ids[chunk * self._n_ctx : (chunk + 1) * self._n_ctx]
        vocabulary = self._context.model.vocabulary
        if vocabulary.add_bos:
            tokens[0] = vocabulary.bos
        self._sequence.clear()
        try:
            self._sequence.evaluate_batch(tokens, self._outputs)
        except Aborted as error:
            raise Cancelled from error
        except ContextFull as error:
            raise Failed(
                "The text could not be evaluated",
                f"A chunk of {self._n_ctx:,} tokens did not fit into its context.",
                "Take smaller chunks with --ctx.",
            ) from error
        if self._interrupt.raised:
            raise Cancelled
        return self._context

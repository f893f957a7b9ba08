"""Measurements apart from any conversation, on the model that is in force."""

from __future__ import annotations

import random
import time

from pagewise.engine.channel import Interrupt
from pagewise.engine.failures import Cancelled, Failed
from pagewise.engine.llamacpp.decode import Aborted, ContextFull
from pagewise.engine.llamacpp.sampler import Sampler
from pagewise.engine.llamacpp.text import StreamedText
from pagewise.engine.running import Running
from pagewise.jobs.measure import Measure, Measured

_SEED = 20_240


def measure(running: Running, command: Measure, interrupt: Interrupt) -> Measured:
    """What ``command`` took. The KV cache then holds the ``depth`` tokens and what was measured behind them.

    Raises Failed where it does not fit the context, Cancelled where it was stopped.
    """
    depth = running.sequence.used if command.depth < 0 else command.depth
    needed = depth + command.n_prompt + command.n_output
    n_ctx = running.context.n_ctx
    if needed > n_ctx:
        raise Failed(
            "The measurement does not fit into the context",
            f"{depth:,} tokens of depth, {command.n_prompt:,} of prompt and {command.n_output:,} of output are "
            f"{needed:,}; the context has {n_ctx:,}.",
            f"Set n_ctx to {needed:,} or more, or measure fewer tokens.",
        )
    try:
        return _Measurement(running, command, interrupt).run()
    except Aborted as error:
        raise Cancelled from error
    except ContextFull as error:
        raise Failed(
            "The measurement ran out of context", "The KV cache was full before its end.", "Measure fewer tokens."
        ) from error


class _Measurement:
    def __init__(self, running: Running, command: Measure, interrupt: Interrupt) -> None:
        self._running = running
        self._command = command
        self._interrupt = interrupt
        self._random = random.Random(_SEED)
        self._depth = list(running.sequence.ids) if command.depth < 0 else self._tokens(command.depth)

    def run(self) -> Measured:
        try:
            return self._measured()
        finally:
            if self._command.depth < 0:
                self._go_to_depth()

    def _measured(self) -> Measured:
        command = self._command
        self._go_to_depth()
        if command.test == "prefill":
            return Measured(command.id, prefill_ns=self._prefill(), n_prompt=command.n_prompt)
        if command.test == "decode":
            return Measured(command.id, decode_ns=self._decode(), n_output=command.n_output)
        return self._chat()

    def _tokens(self, count: int) -> list[int]:
        vocabulary = self._running.model.vocabulary
        ids = [self._random.randrange(vocabulary.n_tokens) for _ in range(count)]
        if ids and vocabulary.add_bos and vocabulary.bos >= 0:
            ids[0] = vocabulary.bos
        return ids

    def _go_to_depth(self) -> None:
        """What the cache holds of the depth from the measurement before is not evaluated again."""
        sequence = self._running.sequence
        if not self._depth:
            sequence.clear()
            return
        # One token more, because the last token of a prompt is always left to evaluate.
        kept = sequence.reuse([*self._depth, -1]).tokens
        if kept < len(self._depth):
            sequence.prefill(self._depth, self._check)

    def _check(self, _: int) -> None:
        if self._interrupt.raised:
            raise Aborted

    def _prefill(self) -> int:
        ids = self._tokens(self._command.n_prompt)
        sequence, n_batch = self._running.sequence, self._running.context.n_batch
        began = time.perf_counter_ns()
        for start in range(0, len(ids), n_batch):
            sequence.evaluate_batch(ids[start : start + n_batch])
            self._check(start)
        return time.perf_counter_ns() - began

    def _decode(self) -> int:
        ids = self._tokens(self._command.n_output)
        sequence = self._running.sequence
        began = time.perf_counter_ns()
        for id in ids:
            sequence.evaluate(id)
        taken = time.perf_counter_ns() - began
        self._check(0)
        return taken

    def _chat(self) -> Measured:
        running, command = self._running, self._command
        vocabulary, sequence = running.model.vocabulary, running.sequence
        text = self._text(command.n_prompt)
        sampler = Sampler(running.profile.sampling, vocabulary.n_tokens)
        try:
            began = time.perf_counter_ns()
            ids = vocabulary.tokenize(text, special=False)[: command.n_prompt] or self._tokens(1)
            held = len(sequence.ids)
            sequence.prefill([*self._depth, *ids], self._check)
            prefilled = time.perf_counter_ns()
            id = sequence.sample(sampler)
            shown = StreamedText(())
            shown.feed(vocabulary.piece(id))
            first = time.perf_counter_ns()
            for _ in range(command.n_output - 1):
                self._check(0)
                sequence.evaluate(id)
                id = sequence.sample(sampler)
                shown.feed(vocabulary.piece(id))
            last = time.perf_counter_ns()
        finally:
            sampler.free()
        return Measured(
            command.id,
            prefill_ns=prefilled - began,
            decode_ns=last - first,
            ttft_ns=first - began,
            n_prompt=len(self._depth) + len(ids) - held,
            n_output=command.n_output,
        )

    def _text(self, n_tokens: int) -> str:
        """A text of at least so many tokens where the tokenizer gives its own pieces back, of few less elsewhere."""
        vocabulary = self._running.model.vocabulary
        raw = b"".join(b" " + vocabulary.piece(id).strip() for id in self._tokens(2 * n_tokens))
        return raw.decode("utf-8", errors="replace")

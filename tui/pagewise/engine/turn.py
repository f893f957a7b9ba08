"""One turn: a conversation in, a reply out, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable

from pagewise.engine.channel import Events, Interrupt
from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.buffers import context_buffers
from pagewise.engine.llamacpp.decode import Aborted, ContextFull, Steps
from pagewise.engine.llamacpp.device_memory import device_memory
from pagewise.engine.llamacpp.sampler import Sampler
from pagewise.engine.llamacpp.text import StreamedText
from pagewise.engine.profiling import Asked, OperatorProfiling
from pagewise.engine.running import Running
from pagewise.engine.timing import TurnClock
from pagewise.messages import Failure, Finished, Generate, Layers, Notice, Prefill, StopReason, Streamed, Tokens
from pagewise.trace import trace

_PROGRESS_S = 0.1
_PROBE_PHASE = 2
_NO_LIMIT = 1 << 62


class Turn:
    """Answers one Generate. All that can go wrong ends in its Finished."""

    def __init__(
        self,
        running: Running,
        request: Generate,
        read_ns: int,
        events: Events,
        interrupt: Interrupt,
        asked: Asked,
        between_tokens: Callable[[], None],
    ) -> None:
        """``between_tokens`` is called before each token: it may change what ``running`` does, never free it."""
        self._between_tokens = between_tokens
        self._running = running
        self._request = request
        self._events = events
        self._interrupt = interrupt
        self._clock = TurnClock(read_ns)
        self._operators = OperatorProfiling(asked, running.operators, events)
        self._sampling = request.sampling or running.profile.sampling
        self._progress_s = 0.0

    def run(self) -> None:
        """Send the reply and its Finished."""
        failure: Failure | None = None
        reason: StopReason
        trace.layer("?")
        try:
            reason = self._answer()
        except Aborted:
            reason = "stopped"
        except ContextFull:
            reason = "context full"
        except Failed as error:
            reason, failure = "failed", error.failure
        self._operators.close()
        trace.layer("")
        running = self._running
        timing = self._clock.timing(kv_used=running.sequence.used, n_ctx=running.context.n_ctx, cold=running.cold)
        if self._clock.n_output:
            running.cold = False
        self._tell_streaming(at_end=True)
        devices = device_memory((*running.placement.buffers, *context_buffers(running.context)))
        self._events.send(Finished(self._request.id, reason, timing, failure, devices))

    def _answer(self) -> StopReason:
        running, clock, sequence = self._running, self._clock, self._running.sequence
        before = running.prompts.note
        prompt = running.prompts.prompt(self._request.messages, running.profile.system_prompt)
        if prompt.note != before:
            self._events.send(
                Notice(
                    Failure(
                        "The model's chat template is not used",
                        prompt.note,
                        "Replies may be worse than they could be: look for another GGUF of the model.",
                    )
                )
            )
        if (changed := running.file_watch.check()) is not None:
            self._events.send(Notice(changed))
        clock.prompt_made()
        clock.n_prompt = len(prompt.ids)
        self._check_length(len(prompt.ids))
        self._check_stopped()
        reused = sequence.reuse(prompt.ids)
        clock.n_reused, clock.reuse_note = reused
        self._prefill_progress(reused.tokens)
        sequence.prefill(prompt.ids, self._prefill_progress)
        clock.prefilled()
        steps = Steps(sequence, self._sampler(prompt.ids))
        text = StreamedText((*self._sampling.stop, *prompt.stop))
        try:
            return self._decode(steps, text)
        finally:
            steps.sampler.free()
            if rest := text.end():
                self._send((), rest, 0.0)

    def _sampler(self, seen: list[int]) -> Sampler:
        sampler = Sampler(self._sampling, self._running.model.vocabulary.n_tokens)
        sampler.see(seen)
        return sampler

    def _take_live_change(self, steps: Steps) -> None:
        """Sampling that has changed meanwhile counts from here; stop strings from the next reply on."""
        self._between_tokens()
        sampling = self._request.sampling or self._running.profile.sampling
        if sampling != self._sampling:
            self._sampling = sampling
            steps.sampler.free()
            steps.sampler = self._sampler(steps.ids)

    def _check_length(self, n_prompt: int) -> None:
        if n_prompt == 0:
            raise Failed("There is nothing to answer", "The conversation is empty.", "Write a message.")
        n_ctx = self._running.context.n_ctx
        if n_prompt > n_ctx - 1:
            over = n_prompt - (n_ctx - 1)
            raise Failed(
                "The conversation is longer than the context",
                f"It takes {n_prompt:,} tokens, {over:,} more than the {n_ctx - 1:,} that the context of {n_ctx:,} "
                "leaves for a prompt.",
                "Start a new conversation, shorten the message, or choose a profile with a larger n_ctx"
                + (f" (this model goes to {self._running.model.n_ctx_train:,})." if self._can_grow() else "."),
            )

    def _can_grow(self) -> bool:
        return self._running.model.n_ctx_train > self._running.context.n_ctx

    def _check_stopped(self) -> None:
        if self._interrupt.raised:
            raise Aborted

    def _prefill_progress(self, done: int) -> None:
        now = time.perf_counter()
        clock = self._clock
        if now - self._progress_s >= _PROGRESS_S or done == clock.n_prompt:
            self._progress_s = now
            self._events.send(Prefill(self._request.id, done, clock.n_prompt, clock.n_reused))
        if done < clock.n_prompt:
            self._check_stopped()

    def _decode(self, steps: Steps, text: StreamedText) -> StopReason:
        running, clock, sequence = self._running, self._clock, self._running.sequence
        piece = running.model.vocabulary.piece
        probe = running.probe
        operators = self._operators
        while True:
            self._check_stopped()
            self._take_live_change(steps)
            limit = self._sampling.max_tokens or _NO_LIMIT
            every = running.profile.probe_every if probe.available else 0
            n = clock.n_output
            profiling = n > 0 and operators.begin()
            probing = not profiling and every and n and n % every == min(_PROBE_PHASE, every - 1)
            inside = sequence.inside_ns
            if probing:
                probe.arm()
            try:
                ids = steps.step()
            finally:
                layers = probe.disarm(n) if probing else None
                operators.disarm()
            if not ids:
                return "end"
            for id in ids:
                step_ms = clock.token(sequence.inside_ns - inside, profiled=profiling)
                inside = sequence.inside_ns
                if n:
                    operators.end(n, len(sequence.ids) - 1, step_ms, probed=bool(probing or profiling))
                shown = text.feed(piece(id))
                if shown.strip():
                    clock.text()
                self._send((id,), shown, step_ms, profiled=profiling)
                if text.stopped:
                    return "stop string"
                if clock.n_output >= limit:
                    return "length"
            self._tell_streaming()
            if layers is not None:
                clock.probed()
                self._events.send(Layers(self._request.id, layers))

    def _tell_streaming(self, *, at_end: bool = False) -> None:
        streaming = self._running.streaming
        if streaming is None:
            return
        if (news := streaming.news(at_end=at_end)) is not None:
            self._events.send(Streamed(news))
        if (trouble := streaming.trouble()) is not None:
            self._events.send(Notice(trouble))

    def _send(self, ids: tuple[int, ...], text: str, step_ms: float, *, profiled: bool = False) -> None:
        used = len(self._running.sequence.ids)
        self._events.send(Tokens(self._request.id, ids, text, self._clock.n_output, used, step_ms, profiled))

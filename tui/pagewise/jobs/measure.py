"""One measurement in an engine: the bare rates of llama.cpp, or the times that a chat feels."""

from __future__ import annotations

from typing import Literal

from pagewise.jobs.base import JobAnswer, JobRequest

Test = Literal["prefill", "decode", "chat"]


class Measure(JobRequest, frozen=True, tag=True):
    """To an engine with a model. Answered by Measured, or by JobFailed.

    ``prefill`` evaluates ``n_prompt`` random tokens in whole batches, ``decode`` ``n_output`` random ones one by one:
    neither tokenizes nor samples, as llama-bench. ``chat`` does what a reply does: a text is tokenized, evaluated and
    answered with ``n_output`` sampled tokens, whatever they are. All of them begin behind ``depth`` tokens; a depth of
    -1 is what the KV cache holds of the conversation, and holds again when it is over.
    """

    test: Test
    n_prompt: int
    n_output: int
    depth: int


class Measured(JobAnswer, frozen=True, tag=True):
    """What Measure ``id`` took, in ns. What the test does not have is None."""

    prefill_ns: int | None = None
    """Evaluation of the ``n_prompt`` tokens."""
    decode_ns: int | None = None
    """Of ``n_output`` tokens (``chat``: of all but the first)."""
    ttft_ns: int | None = None
    """Tokenizing, evaluation, first sample."""
    n_prompt: int = 0
    """Tokens that were really evaluated."""
    n_output: int = 0

    @property
    def prefill_rate(self) -> float | None:
        """Tokens a second."""
        return 1e9 * self.n_prompt / self.prefill_ns if self.prefill_ns else None

    @property
    def tpot_ms(self) -> float | None:
        """Time of one more token; of a chat without the first one's."""
        steps = self.n_output - (self.ttft_ns is not None)
        return self.decode_ns / steps / 1e6 if self.decode_ns and steps > 0 else None

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token."""
        return None if self.ttft_ns is None else self.ttft_ns / 1e6

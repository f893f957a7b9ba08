"""When each part of a turn happened, by the engine's one clock. Definitions: docs/numbers.md."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from pagewise.readings import TurnTiming


class TurnClock:
    """Collects the moments of one turn; durations come out in ms."""

    def __init__(self, read_ns: int) -> None:
        """``read_ns``: when the request's frame had been read."""
        self._read_ns = read_ns
        self._begun_ns = time.perf_counter_ns()
        self._prompt_ns: int | None = None
        self._prefilled_ns: int | None = None
        self._text_ns: int | None = None
        self._tokens_ns: list[int] = []
        self._loop_ns: list[int] = []
        self._probed: list[int] = []
        self._profiled: list[int] = []
        self.n_prompt = 0
        self.n_reused = 0
        self.reuse_note = ""

    def prompt_made(self) -> None:
        """Template and tokenizer are done."""
        self._prompt_ns = time.perf_counter_ns()

    def prefilled(self) -> None:
        """The whole prompt was evaluated."""
        self._prefilled_ns = time.perf_counter_ns()

    def token(self, inside_ns: int, *, profiled: bool = False) -> float:
        """A token was sampled just now; the step spent ``inside_ns`` in llama.cpp. Time since the former token, in ms.

        For the first token: TTFT. ``profiled``: it was computed node by node, which counts in no rate.
        """
        now = time.perf_counter_ns()
        since = self._tokens_ns[-1] if self._tokens_ns else self._read_ns
        if profiled:
            self._profiled.append(len(self._tokens_ns))
        elif self._tokens_ns:
            self._loop_ns.append(now - since - inside_ns)
        self._tokens_ns.append(now)
        return (now - since) / 1e6

    def text(self) -> None:
        """Visible text came out with the token sampled last."""
        if self._text_ns is None:
            self._text_ns = self._tokens_ns[-1]

    def probed(self) -> None:
        """The token sampled last was probed."""
        self._probed.append(len(self._tokens_ns) - 1)

    @property
    def n_output(self) -> int:
        """Tokens sampled so far."""
        return len(self._tokens_ns)

    def timing(self, *, kv_used: int, n_ctx: int, cold: bool) -> TurnTiming:
        """The turn as it stands."""
        tokens = self._tokens_ns
        gaps = tuple((later - earlier) / 1e6 for earlier, later in pairwise(tokens))
        profiled = {token - 1 for token in self._profiled}
        slowed = sum(gaps[gap] for gap in profiled)
        counted = len(gaps) - len(profiled)
        tpot = ((tokens[-1] - tokens[0]) / 1e6 - slowed) / counted if counted else None
        now = time.perf_counter_ns()
        prompt_ns = self._prompt_ns or now
        prefilled_ns = self._prefilled_ns or now
        return TurnTiming(
            ttft_ms=(tokens[0] - self._read_ns) / 1e6 if tokens else None,
            queue_ms=(self._begun_ns - self._read_ns) / 1e6,
            template_ms=(prompt_ns - self._begun_ns) / 1e6,
            prefill_ms=(prefilled_ns - prompt_ns) / 1e6 if self._prompt_ns else 0.0,
            first_sample_ms=(tokens[0] - prefilled_ns) / 1e6 if tokens and self._prefilled_ns else None,
            ttft_text_ms=(self._text_ns - self._read_ns) / 1e6 if self._text_ns else None,
            tpot_ms=tpot,
            itl_ms=gaps,
            n_prompt=self.n_prompt,
            n_reused=self.n_reused,
            n_output=len(tokens),
            depth=self.n_prompt if tokens else None,
            kv_used=kv_used,
            n_ctx=n_ctx,
            loop_cost_ms=median(self._loop_ns) / 1e6 if self._loop_ns else None,
            n_probed=len(self._probed),
            probe_cost_pct=probe_cost(gaps, self._probed, tpot, self._profiled),
            cold=cold,
            reuse_note=self.reuse_note,
            profiled=tuple(self._profiled),
        )


def probe_cost(
    gaps: tuple[float, ...], probed: list[int], tpot: float | None, profiled: Sequence[int] = ()
) -> float | None:
    """(median of probed gaps − median of their unprobed neighbours) × probe rate / TPOT, in per cent; None if unknown.

    ``probed`` are token numbers; token n ends gap n − 1. Gaps of ``profiled`` tokens are nobody's neighbours.
    """
    marked = {token - 1 for token in probed if 0 < token <= len(gaps)}
    neighbours = {gap for mark in marked for gap in (mark - 1, mark + 1) if 0 <= gap < len(gaps)} - marked
    neighbours -= {token - 1 for token in profiled}
    if not marked or not neighbours or not tpot:
        return None
    extra = median(gaps[gap] for gap in marked) - median(gaps[gap] for gap in neighbours)
    return 100.0 * extra * len(marked) / len(gaps) / tpot

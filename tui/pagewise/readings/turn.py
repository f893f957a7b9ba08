"""What one reply took, and the verdict on it."""

from __future__ import annotations

from msgspec import Struct


class LayerClock(Struct, frozen=True):
    """One probed token: what each layer took. Times are upper bounds, since the probe synchronizes after each layer."""

    token: int
    """Which output token of the turn was probed, from 0."""
    total_ms: float
    names: tuple[str, ...]
    """``input``, ``0`` … ``n-1``, ``output``."""
    ms: tuple[float, ...]
    devices: tuple[str, ...]
    page_in_bytes: tuple[int, ...]
    """Growth of the layer's cached pages during the token, of a streamed layer what was read; empty where it is not
    counted."""
    stalls: tuple[int, ...]
    """Major faults of the computing threads during each layer."""
    ask_ms: float
    """Time spent in Python inside the callback: part of the probe's own cost."""
    experts: tuple[tuple[int, ...], ...] = ()
    """For each of ``names``, the experts that the router chose for this token; empty where the layer has no router."""
    n_expert: int = 0
    """Experts of a layer; 0: the model is no mixture, or its choices cannot be read."""
    demand_bytes: tuple[int, ...] = ()
    """Read from disk by the computing threads during each layer: what they touched and was not there, with what the
    kernel read around it; empty where it is not known."""
    read_ahead_bytes: tuple[int, ...] = ()
    """Read from disk for each layer by the threads that stream the model, during the token; empty where it is not
    known."""

    @property
    def demand_total(self) -> int | None:
        """Bytes that the token waited for; None where it is not known."""
        return sum(self.demand_bytes) if self.demand_bytes else None

    @property
    def read_ahead_total(self) -> int | None:
        """Bytes that were read ahead while it ran; None where it is not known."""
        return sum(self.read_ahead_bytes) if self.read_ahead_bytes else None


class TurnTiming(Struct, frozen=True):
    """When each part of a turn happened; all durations by the engine's one clock. Defined in docs/numbers.md."""

    ttft_ms: float | None
    queue_ms: float
    template_ms: float
    """Chat template and tokenizer."""
    prefill_ms: float
    first_sample_ms: float | None
    ttft_text_ms: float | None
    tpot_ms: float | None
    """Mean of ``counted_ms``: (t_last − t_first) / (n_output − 1) where no token was profiled."""
    itl_ms: tuple[float, ...]
    """Every gap between consecutive output tokens, in order."""
    n_prompt: int
    n_reused: int
    """Prompt tokens found in the KV cache."""
    n_output: int
    depth: int | None
    """KV fill at the first output token."""
    kv_used: int
    n_ctx: int
    loop_cost_ms: float | None
    """Median over tokens of step time minus time inside llama.cpp calls."""
    n_probed: int
    probe_cost_pct: float | None
    cold: bool
    """The first turn after a load: never averaged with warm ones."""
    reuse_note: str = ""
    """Why nothing, or less than the common prefix, was reused."""
    profiled: tuple[int, ...] = ()
    """Output tokens, from 0, that were computed node by node for an operator profile: they are in no rate."""

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens really evaluated per second; None if nothing was evaluated."""
        evaluated = self.n_prompt - self.n_reused
        return 1000.0 * evaluated / self.prefill_ms if evaluated > 0 and self.prefill_ms > 0 else None

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second, 1000 / TPOT."""
        return 1000.0 / self.tpot_ms if self.tpot_ms else None

    @property
    def counted_ms(self) -> tuple[float, ...]:
        """The gaps that count: all but those that end with a profiled token. Token n ends gap n − 1."""
        if not self.profiled:
            return self.itl_ms
        left_out = {token - 1 for token in self.profiled}
        return tuple(gap for index, gap in enumerate(self.itl_ms) if index not in left_out)

    def itl_percentile(self, q: float) -> float | None:
        """The q-th percentile (0 to 100) of the gaps that count, by linear interpolation; None without such gaps."""
        return percentile(self.counted_ms, q)


def percentile(values: tuple[float, ...] | list[float], q: float) -> float | None:
    """The q-th percentile (0 to 100) by linear interpolation between closest ranks; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * q / 100.0
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


class Verdict(Struct, frozen=True):
    """What bounds a token of the last reply, with the figures that say so and the one change that would help most."""

    bound_by: str
    """``RAM bandwidth``, ``VRAM bandwidth``, ``disk``, ``compute / threads``, ``PCIe``, ``sync / launch``, ``host``,
    ``other tenant``, ``unclear``."""
    why: str
    advice: str
    reasoning: tuple[str, ...] = ()
    """The whole chain, one sentence a step."""

"""What is known of machine and model before and between trials: the ground for what is tried next."""

from __future__ import annotations

from msgspec import Struct

from pagewise.tuner.candidate import Candidate


class Device(Struct, frozen=True):
    """One accelerator."""

    name: str
    free_bytes: int | None
    """With what the model itself holds given back."""
    bytes_per_s: float | None
    """Memory bandwidth, if it is known."""


class Facts(Struct, frozen=True):
    """Counts, bytes, bytes a second."""

    physical_cores: int
    logical_cores: int
    devices: tuple[Device, ...]
    n_layer: int
    is_mixture: bool
    """Whether it has experts that are routed to."""
    bytes_per_token: int
    """Weights read for one token."""
    kv_bytes_at_depth: int
    """Of the KV cache, read for one token at the depth of the aim."""
    repackable_bytes: int
    """Weights that llama.cpp would copy into another layout of the processor's."""
    model_bytes: int
    available_bytes: int
    """RAM that can be taken, with what the model itself holds given back."""
    ram_peaks: dict[int, float]
    """Bytes a second that RAM gives at most to so many threads, for the counts that it has been measured at."""
    streamed_bytes: int = 0
    """Read from disk for each token, because they do not fit."""
    feed_forward_bytes: int = 0
    """Of the layers' dense feed-forward parts, all together."""
    n_params: int = 0
    candidates: tuple[Candidate, ...] = ()
    """Files that may be taken, the one in force among them; empty: there is no choice."""

    def ram_share(self, tpot_ms: float | None, threads: int, host_bytes: int | None = None) -> float | None:
        """Of what RAM gives so many threads, what a token that takes so long uses; None where it cannot be said.

        ``host_bytes``: what of the weights it reads there, where devices hold some: it is at least that share then,
        since the devices take their part of the time.
        """
        peak = self.ram_peaks.get(threads)
        if not peak or not tpot_ms or (self.devices and host_bytes is None):
            return None
        read = self.bytes_per_token + self.kv_bytes_at_depth
        if self.devices and host_bytes is not None and self.bytes_per_token:
            # The KV cache of a layer lies where its weights are.
            read = round(read * min(1.0, host_bytes / self.bytes_per_token))
        return read / (tpot_ms / 1000) / peak

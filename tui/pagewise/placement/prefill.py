"""How many prompt tokens to send through the layers at once where every pass reads the streamed ones again."""

from __future__ import annotations

from collections.abc import Callable

_FAST_CORE = 100e9
"""Floating-point operations a second that a core does at most in a matrix product: fewer only make reading cheaper."""
_DISK = 1e9
"""Bytes a second before any were measured."""
_MOST = 4096
_SHARE_OF_ROOM = 0.03
_LEAST_SPARE = 64 * 1024 * 1024


def prefill_batch(
    n_ubatch: int,
    n_ctx: int,
    streamed_bytes: float,
    active_weights: float,
    cores: int,
    room: int,
    compute_bytes: Callable[[int], int | None],
    bandwidth: float | None = None,
) -> int:
    """Tokens of a micro-batch, ``n_ubatch`` or a power of two above it.

    Reading goes on while layers are computed, so a batch that takes as long to compute as the streamed bytes take to
    read is large enough. ``compute_bytes`` says what the compute buffers of a batch take (None: not known); it is taken
    from what is kept, so that they may grow by a few hundredths of ``room`` at most.
    """
    reading_s = streamed_bytes / (bandwidth or _DISK)
    first = compute_bytes(n_ubatch)
    chosen = n_ubatch
    while chosen < min(_MOST, n_ctx) and 2.0 * active_weights * chosen / (cores * _FAST_CORE) < reading_s:
        larger = compute_bytes(2 * chosen)
        if first is None or larger is None or larger - first > max(_LEAST_SPARE, _SHARE_OF_ROOM * room):
            break
        chosen *= 2
    return chosen

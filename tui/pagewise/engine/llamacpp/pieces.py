"""How many prompt tokens go to llama.cpp at once, so that a stop takes effect soon."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_SMALLEST = 32
_FIRST_ON_DEVICE = 64
_PATIENCE_S = 0.06
_SETTLED = 0.5
_SLOW_CORE = 20e9
"""Floating-point operations a second that one thread does at least in a matrix product, on a machine of its own."""


class Grain(NamedTuple):
    """What of a piece cannot be interrupted.

    On the CPU llama.cpp can be aborted between two nodes of its graph, so that a piece may take long as long as its
    largest node does not. On a device a piece is one node.
    """

    share: float
    """Of the work of a piece: 1 on a device."""
    weights: int
    """Of the largest matrix, where the CPU computes; 0 on a device."""


class PieceSize:
    """Sizes the pieces of a prefill from the rate that was measured, and before that by a cautious guess.

    Sizes are powers of two up to ``n_ubatch``, so that a fast model always gets whole micro-batches and the same bits.
    """

    def __init__(self, n_ubatch: int, grain: Grain, threads: int, *, whole: Callable[[], bool] = bool) -> None:
        """``whole``: whether whole micro-batches are wanted, since every piece reads the weights that are streamed."""
        self._n_ubatch = n_ubatch
        self._share = grain.share
        self._rate: float | None = None
        guess = _PATIENCE_S * _SLOW_CORE * threads / (2 * grain.weights) if grain.weights else _FIRST_ON_DEVICE
        self._whole = whole
        self._size = self._rounded(guess)

    @property
    def size(self) -> int:
        """Tokens of the next piece."""
        return self._n_ubatch if self._whole() else self._size

    def measured(self, tokens: int, seconds: float) -> None:
        """A piece of ``tokens`` took this long. Short pieces say little of the rate and are passed over."""
        if tokens < min(self._size, _SMALLEST) or seconds <= 0:
            return
        rate = tokens / seconds
        self._rate = rate if self._rate is None else _SETTLED * self._rate + (1 - _SETTLED) * rate
        self._size = self._rounded(self._rate * _PATIENCE_S / self._share)

    def _rounded(self, wanted: float) -> int:
        if wanted >= self._n_ubatch:
            return self._n_ubatch
        size = _SMALLEST
        while size * 2 <= wanted:
            size *= 2
        return min(size, self._n_ubatch)

"""Which quant of a model would fit into memory, and what it would do for the decode rate."""

from __future__ import annotations

from typing import NamedTuple

BITS_PER_WEIGHT = {
    "Q8_0": 8.50,
    "Q6_K": 6.56,
    "Q5_K_M": 5.70,
    "Q4_K_M": 4.89,
    "Q3_K_M": 4.00,
    "Q2_K": 3.16,
}
"""Of whole files of dense models of 8 billion weights, as llama-quantize makes them; others differ a little."""


class Quant(NamedTuple):
    """A quant by name, and the bytes of the file that it would make."""

    name: str
    bytes: int


def that_fits(n_params: int, file_bytes: int, room: int) -> Quant | None:
    """The best quant below the present one whose file fits into ``room`` bytes; None if none does."""
    for name, bits in BITS_PER_WEIGHT.items():
        size = int(n_params * bits / 8)
        if size <= room and size < 0.95 * file_bytes:
            return Quant(name, size)
    return None


def rate_with(quant: Quant, file_bytes: int, compute_ms: float) -> float:
    """Tokens a second, if computing takes its time by the bytes and nothing is read from disk."""
    return 1000.0 / (compute_ms * quant.bytes / file_bytes)

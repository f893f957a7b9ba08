"""A file that a tune may take: one quant of the model."""

from __future__ import annotations

from msgspec import Struct

from pagewise.tuner.ledger import Source


class Candidate(Struct, frozen=True):
    """``model`` and ``quant`` are what a profile says for it."""

    model: str
    quant: str | None
    level: str
    """Its quant level, from its tensors."""
    file: str
    """What tells it from others, wherever it lies: name, size and a digest of parts of it."""
    bytes: int
    bits_per_weight: float

    @property
    def source(self) -> Source:
        """The keys of a profile that name it."""
        return self.model, self.quant


def best_of(candidates: tuple[Candidate, ...]) -> Candidate:
    """The one of most bits: what the others are compared with."""
    return max(candidates, key=lambda each: (each.bits_per_weight, each.bytes))

"""Foretells which experts the next layer will need, and measures how often that was right.

Two things may tell: what the same layer needed for the token before, and what it needed whenever the layer before it
had chosen as it did now. Whether either does depends on the model and the text, so each is watched all the time, over
experts that are not in memory, and is followed only while enough of what it foretold has come true.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

_WORTH = 0.5
"""Reading ahead is worth it while every second expert that is read is needed."""
_LEAST = 64
"""Foretold experts before any are believed."""
_MEMORY = 2048.0
_RELEARN = 16
_ALWAYS = 256
_EVERY = 4
"""After so many tokens a router that nothing foretells is watched for one token in ``_EVERY``: it costs time."""


class Record:
    """How often one way to foretell was right."""

    def __init__(self) -> None:
        self._told = 0.0
        self._right = 0.0

    def add(self, told: int, right: int) -> None:
        """Of ``told`` experts ``right`` were needed."""
        self._told += told
        self._right += right
        if self._told > _MEMORY:
            self._told /= 2
            self._right /= 2

    @property
    def precision(self) -> float | None:
        """Share that was needed; None while there is too little to go by."""
        return self._right / self._told if self._told >= _LEAST else None

    @property
    def believed(self) -> bool:
        """Whether to go by it."""
        return (self.precision or 0.0) >= _WORTH


class Foresight:
    """Layers and experts go by their index. Call ``learn`` for each layer of a token, ``next`` for the one behind."""

    def __init__(self, n_layer: int, n_expert: int, n_used: int) -> None:
        self.by_token = Record()
        """By what the layer needed for the token before."""
        self.by_layer = Record()
        """By what the layer before it has chosen."""
        self._n_used = n_used
        self._n_expert = n_expert
        self._last: list[tuple[int, ...]] = [()] * n_layer
        self._counts: list[dict[int, list[int]]] = [{} for _ in range(n_layer)]
        self._likely: list[dict[int, tuple[int, ...]]] = [{} for _ in range(n_layer)]
        self._seen: list[dict[int, int]] = [{} for _ in range(n_layer)]
        self._told: dict[int, tuple[frozenset[int], frozenset[int]]] = {}
        self._before: tuple[int, tuple[int, ...]] | None = None
        self._tokens = 0
        self._watched = True

    @property
    def wanted(self) -> bool:
        """Whether ``next`` is to be called: what it says may be followed, or is to be checked."""
        return self._watched or self.by_token.believed or self.by_layer.believed

    def learn(self, layer: int, chosen: Collection[int]) -> None:
        """``layer`` has chosen these for this token."""
        if self._before is None or layer <= self._before[0]:
            self._tokens += 1
            self._watched = self._tokens <= _ALWAYS or self._tokens % _EVERY == 0
        told = self._told.pop(layer, None)
        if told is not None:
            for record, experts in zip((self.by_token, self.by_layer), told, strict=True):
                record.add(len(experts), len(experts.intersection(chosen)))
        if self._before is not None and self._before[0] == layer - 1 and (self._watched or self.by_layer.believed):
            self._count(layer, self._before[1], chosen)
        self._last[layer] = tuple(chosen)
        self._before = layer, tuple(chosen)

    def next(self, layer: int, before: Iterable[int], away: Collection[int]) -> list[int]:
        """Experts of ``layer`` to read ahead, of those that are ``away``, where the layer before chose ``before``."""
        by_token = frozenset(expert for expert in self._last[layer] if expert in away)
        by_layer = (
            frozenset(expert for expert in self._voted(layer, before) if expert in away) if layer else frozenset()
        )
        self._told[layer] = by_token, by_layer
        likely: list[int] = []
        if self.by_layer.believed:
            likely += by_layer
        if self.by_token.believed:
            likely += by_token - by_layer if self.by_layer.believed else by_token
        return likely

    def _count(self, layer: int, before: Iterable[int], chosen: Collection[int]) -> None:
        for expert in before:
            counts = self._counts[layer].get(expert)
            if counts is None:
                counts = self._counts[layer][expert] = [0] * self._n_expert
            for other in chosen:
                counts[other] += 1
            seen = self._seen[layer].get(expert, 0) + 1
            self._seen[layer][expert] = seen
            if seen % _RELEARN == 0:
                ordered = sorted(range(self._n_expert), key=counts.__getitem__, reverse=True)
                self._likely[layer][expert] = tuple(ordered[: 2 * self._n_used])

    def _voted(self, layer: int, before: Iterable[int]) -> list[int]:
        votes: dict[int, int] = {}
        likely = self._likely[layer]
        for expert in before:
            for rank, other in enumerate(likely.get(expert, ())):
                votes[other] = votes.get(other, 0) + 2 * self._n_used - rank
        return sorted(votes, key=votes.__getitem__, reverse=True)[: self._n_used]

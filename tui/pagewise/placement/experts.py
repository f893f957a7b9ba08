"""Experts of a mixture: which stay in memory, by how often the router really chooses them, and which are streamed.

The unit is one expert of one layer: its slice of each of the layer's expert tensors. An expert that was read because it
was chosen stays if it has been chosen more often than the least wanted one that is there, which then goes instead.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from enum import Enum
from itertools import accumulate
from typing import NamedTuple

from pagewise.placement.expert_layout import ExpertLayout
from pagewise.placement.pages import GRANULE, inner_pages
from pagewise.placement.readers import Job, Readers
from pagewise.placement.routing import Foresight

_HALF_LIFE = 512.0
"""Tokens after which a choice counts half."""
_PIECE = 2 * GRANULE
"""A slice is read in pieces of this size, so that several threads share a large one."""
_HUGE_SCORE = 1e200
_COUNTED_TOKENS = 200
"""What was missed is a share of this many tokens, or half of them."""
_LEAST_TOKENS = 32
"""Fewer say too little of what routers like."""


class Misses(NamedTuple):
    """What a token would have to read if the experts that are wanted most were kept."""

    kept: list[int]
    """Bytes of the first one, of the first two, …"""
    missed: list[float]
    """Bytes that a token misses with none of them, with the first one, …"""

    def at(self, room: int) -> float:
        """Bytes of experts that a token misses where ``room`` bytes of them are kept."""
        return self.missed[bisect_right(self.kept, room)]


class State(Enum):
    """What is known of an expert."""

    AWAY = 0
    READING = 1
    HERE = 2
    UNSURE = 3
    """The kernel may have taken pages of it."""
    DROPPING = 4


_PRESENT = (State.HERE, State.UNSURE)


class Experts:
    """Keeps as many bytes of experts as ``resize`` allows, and has them there when the router has chosen them.

    ``begin``, ``chosen``, ``done`` and ``end`` are called by the computing thread.
    """

    def __init__(self, readers: Readers, experts: ExpertLayout, n_used: int) -> None:
        self._readers = readers
        self._changed = readers.changed
        self._layout = experts
        self._n_used = n_used
        self._index = {name: number for number, name in enumerate(experts.layers)}
        self._sizes = [sum(piece.end - piece.start for piece in slices) for slices in experts.slices]
        self._state = [State.AWAY] * len(experts.slices)
        self._scores = [0.0] * len(experts.slices)
        self._weight = 1.0
        """What a choice counts now: it grows, instead of all that was before being made less."""
        self._order: list[tuple[float, int]] = []
        """Those that are here, the least wanted first, each once, with a score that it has had: it only grows."""
        self._listed = [False] * len(experts.slices)
        self._pieces: deque[tuple[int, int, int, int]] = deque()
        """(expert, part, start, end) to be read now."""
        self._ahead: deque[int] = deque()
        self._drops: deque[tuple[int, int, int, int]] = deque()
        self._pending = [0] * len(experts.slices)
        self._again: set[int] = set()
        self._needed: frozenset[int] = frozenset()
        self._fill = 0
        self._swept = False
        self._seen_tokens = 0
        self._inside = 0
        self._leaving = 0
        """Of what is inside, those that are being dropped."""
        self._room = 0
        self._slack = self._one_slack = 0
        self.foresight = Foresight(len(experts.layers), experts.n_expert, n_used)
        self.chosen_count = 0.0
        """Experts that single tokens have needed, of late, and of these …"""
        self.missed_count = 0.0
        """… those that were not there."""
        self.waited_s = 0.0
        """Time that the computing thread has waited for experts, all in all."""
        readers.sources += [self._take_now]

    def watch_idle(self) -> None:
        """What is asked of the readers when nothing else is to be done: call it when other sources are in place."""
        self._readers.sources += [self._take_ahead, self._take_fill]

    # ---- what the computing thread says -----------------------------------------------------------------------------

    def resize(self, room: int) -> None:
        """Bytes of experts that may be in memory, those that are being read among them."""
        with self._changed:
            if room > self._room:
                self._fill = 0
            self._room = room
            self._slack = self._one_slack = self._slack_for(1)
            self._trim()
            self._readers.wake()

    def forget(self) -> None:
        """The kernel may have taken what was kept: an expert that is chosen is then read again where it is missing."""
        with self._changed:
            for expert, state in enumerate(self._state):
                if state is State.HERE and expert not in self._needed:
                    self._state[expert] = State.UNSURE

    def begin(self, n_tokens: int) -> None:
        """An evaluation is about to begin."""
        with self._changed:
            self._seen_tokens += n_tokens
            self._slack = self._one_slack if n_tokens == 1 else self._slack_for(n_tokens)
            self._weight *= 2.0 ** (n_tokens / _HALF_LIFE)
            if self._weight > _HUGE_SCORE:
                self._scores = [score / self._weight for score in self._scores]
                self._weight = 1.0
                self._reorder()
            self._trim()
            self._wake()

    def chosen(self, layer: str, counts: Mapping[int, int], n_tokens: int) -> None:
        """The router of ``layer`` has chosen these (expert: for how many tokens); returns when they are there."""
        number = self._index.get(layer)
        if number is None:
            return
        first = number * self._layout.n_expert
        with self._changed:
            needed = frozenset(first + expert for expert in counts)
            self._needed = needed
            if n_tokens == 1:
                self.foresight.learn(number, counts.keys())
            for expert, count in counts.items():
                self._scores[first + expert] += self._weight * count
            missing = [expert for expert in needed if self._state[expert] is not State.HERE]
            if n_tokens == 1:
                self._count(len(needed), sum(self._state[expert] not in _PRESENT for expert in missing))
            # What was foretold for this layer and has not been begun is of no more use.
            self._ahead.clear()
            for expert in missing:
                self._read(expert)
            self._trim()
            self._foretell(number, needed, n_tokens)
            self._wake()
            if not missing:
                return
            began = time.monotonic()
            while not self._readers.closed and any(self._state[expert] is not State.HERE for expert in missing):
                self._changed.wait()
            self.waited_s += time.monotonic() - began

    def done(self, layer: str) -> None:
        """``layer`` has been computed."""
        if layer in self._index:
            with self._changed:
                self._release()

    def end(self) -> None:
        """The evaluation has ended, or was stopped."""
        with self._changed:
            self._slack = self._one_slack
            self._release()
            # There may be room again for what nobody has asked for yet.
            self._readers.wake(1)

    # ---- what is known ----------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes of experts that may be in memory."""
        return self._room

    def kept_of_layers(self) -> dict[str, int]:
        """Bytes of each layer's experts that are there now."""
        n_expert = self._layout.n_expert
        kept = dict.fromkeys(self._layout.layers, 0)
        for expert, state in enumerate(self._state):
            if state in _PRESENT:
                kept[self._layout.layers[expert // n_expert]] += self._sizes[expert]
        return kept

    def misses(self) -> Misses | None:
        """What a token would have to read, by the choices so far; None while too little is known."""
        total = sum(self._scores)
        if self._seen_tokens < _LEAST_TOKENS or total <= 0:
            return None
        per_token = self._n_used * len(self._layout.layers)
        order = sorted(range(len(self._scores)), key=self._scores.__getitem__, reverse=True)
        kept = list(accumulate(self._sizes[expert] for expert in order))
        missed = [min(1.0, per_token * self._scores[expert] / total) * self._sizes[expert] for expert in order]
        return Misses(kept, [*accumulate(reversed(missed), initial=0.0)][::-1])

    # ---- choosing ---------------------------------------------------------------------------------------------------

    def _slack_for(self, n_tokens: int) -> int:
        """Room for experts that are read because they are needed: those of one layer that may be missing."""
        n_expert = self._layout.n_expert
        distinct = n_expert * (1.0 - (1.0 - self._n_used / n_expert) ** n_tokens)
        everything = sum(self._sizes)
        missing = max(0.0, 1.0 - self._room / everything) if everything else 0.0
        of_layer = distinct * self._layout.largest * (missing if n_tokens > 1 else 1.0)
        return int(min(of_layer, self._room / 2))

    def _count(self, needed: int, missed: int) -> None:
        self.chosen_count += needed
        self.missed_count += missed
        if self.chosen_count > _COUNTED_TOKENS * self._n_used * len(self._layout.layers):
            self.chosen_count /= 2
            self.missed_count /= 2

    def _release(self) -> None:
        self._needed = frozenset()
        self._trim()
        self._wake()

    def _wake(self) -> None:
        jobs = len(self._drops) + len(self._pieces) + len(self._ahead)
        if jobs:
            self._readers.wake(jobs)

    def _trim(self) -> None:
        """Drop the least wanted until what is inside leaves room for what will be needed."""
        target = self._room - (0 if self._needed else self._slack)
        aside = []
        while self._inside - self._leaving > target and self._order:
            score, expert = self._order[0]
            if self._state[expert] in _PRESENT and score < self._scores[expert]:
                heapq.heapreplace(self._order, (self._scores[expert], expert))
                continue
            heapq.heappop(self._order)
            self._listed[expert] = False
            if self._state[expert] not in _PRESENT:
                continue
            if expert in self._needed:
                aside.append(expert)
                continue
            self._drop(expert)
        for expert in aside:
            self._list(expert)

    def _list(self, expert: int) -> None:
        if not self._listed[expert]:
            self._listed[expert] = True
            heapq.heappush(self._order, (self._scores[expert], expert))

    def _reorder(self) -> None:
        self._listed = [state in _PRESENT for state in self._state]
        self._order = [(self._scores[expert], expert) for expert, listed in enumerate(self._listed) if listed]
        heapq.heapify(self._order)

    def _foretell(self, number: int, needed: frozenset[int], n_tokens: int) -> None:
        """Have read ahead what the next layer is likely to need."""
        following = (number + 1) % len(self._layout.layers)
        first = following * self._layout.n_expert
        if n_tokens == 1:
            if not self.foresight.wanted:
                return
            away = self._away(first)
            likely = self.foresight.next(following, [expert % self._layout.n_expert for expert in needed], away)
            self._ahead.extend(first + expert for expert in likely)
        elif 2 * len(needed) > self._layout.n_expert:
            # Of a large batch most experts are needed; those that are wanted most come first.
            away = self._away(first)
            self._ahead.extend(sorted((first + expert for expert in away), key=self._scores.__getitem__, reverse=True))

    def _away(self, first: int) -> set[int]:
        return {expert for expert in range(self._layout.n_expert) if self._state[first + expert] is State.AWAY}

    # ---- reading and dropping ---------------------------------------------------------------------------------------

    def _read(self, expert: int) -> None:
        state = self._state[expert]
        if state is State.READING:
            return
        if state is State.DROPPING:
            self._again.add(expert)
            return
        if state is State.AWAY:
            self._inside += self._sizes[expert]
        self._state[expert] = State.READING
        for part, start, end in self._layout.slices[expert]:
            for low in range(start, end, _PIECE):
                self._pieces.append((expert, part, low, min(low + _PIECE, end)))
                self._pending[expert] += 1

    def _drop(self, expert: int) -> None:
        self._state[expert] = State.DROPPING
        self._leaving += self._sizes[expert]
        for part, start, end in self._layout.slices[expert]:
            low, high = inner_pages(start, end)
            self._drops.append((expert, part, low, high))
            self._pending[expert] += 1

    def _take_now(self) -> Job | None:
        crowded = self._inside > self._room
        if self._drops and (crowded or not self._pieces):
            expert, part, start, end = self._drops.popleft()
            return Job(self, expert, part, start, end, True)
        if self._pieces:
            expert, part, start, end = self._pieces.popleft()
            return Job(self, expert, part, start, end, False)
        return None

    def _take_ahead(self) -> Job | None:
        while self._ahead:
            expert = self._ahead[0]
            if self._state[expert] is not State.AWAY:
                self._ahead.popleft()
                continue
            if self._inside + self._sizes[expert] > self._room:
                return None
            self._ahead.popleft()
            self._read(expert)
            return self._take_now()
        return None

    def _take_fill(self) -> Job | None:
        """While there is room, any expert is better than none."""
        experts = len(self._state)
        while self._fill < experts:
            # One expert of every layer, then the next one of every layer.
            n_layer = len(self._layout.layers)
            expert = self._fill % n_layer * self._layout.n_expert + self._fill // n_layer
            if self._state[expert] is State.AWAY:
                if self._inside + self._sizes[expert] > self._room - self._slack:
                    return self._take_left_over()
                self._fill += 1
                self._read(expert)
                return self._take_now()
            self._fill += 1
        return None

    def _take_left_over(self) -> Job | None:
        """What lies in the page cache of experts that we have never read, from the load or from another program."""
        if self._swept:
            return None
        self._swept = True
        for expert, state in enumerate(self._state):
            if state is State.AWAY:
                self._inside += self._sizes[expert]
                self._drop(expert)
        return self._take_now()

    def finished(self, job: Job) -> None:
        """A piece of an expert has come, or gone."""
        expert = job.key
        self._pending[expert] -= 1
        if self._pending[expert]:
            return
        if not job.dropping:
            self._state[expert] = State.HERE
            self._list(expert)
            return
        self._state[expert] = State.AWAY
        self._inside -= self._sizes[expert]
        self._leaving -= self._sizes[expert]
        if expert in self._again:
            self._again.discard(expert)
            self._read(expert)
            # Its pieces are for several threads, not only for the one that has dropped it.
            self._wake()

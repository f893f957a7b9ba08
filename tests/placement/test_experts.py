from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from pagewise.placement.expert_layout import ExpertLayout, Slice
from pagewise.placement.experts import Experts
from pagewise.placement.readers import Readers

N_LAYER, N_EXPERT, N_USED = 6, 16, 2
SIZE = 8192
UNIT = 2 * SIZE


def _slices() -> tuple[tuple[Slice, ...], ...]:
    """Two tensors a layer, experts behind each other in each; page aligned, so that all of a slice can be dropped."""
    found = []
    for layer in range(N_LAYER):
        for expert in range(N_EXPERT):
            first = (2 * layer * N_EXPERT + expert) * SIZE
            second = first + N_EXPERT * SIZE
            found.append((Slice(0, first, first + SIZE), Slice(0, second, second + SIZE)))
    return tuple(found)


LAYOUT = ExpertLayout(tuple(map(str, range(N_LAYER))), N_EXPERT, _slices(), frozenset())


class Memory:
    """A file of which it is known what is in memory."""

    def __init__(self) -> None:
        self.here: set[int] = set()
        self.reads = 0
        self.most = 0
        self.lock = threading.Lock()

    def read(self, start: int, end: int) -> None:
        assert end - start == SIZE
        with self.lock:
            self.reads += start not in self.here
            self.here.add(start)
            self.most = max(self.most, len(self.here))

    keep = read

    def drop(self, start: int, end: int) -> None:
        assert end - start == SIZE
        with self.lock:
            self.here.discard(start)


class Mixture:
    """Experts over a memory, with a router that chooses unevenly."""

    def __init__(self, skew: float = 1.5) -> None:
        self.memory = Memory()
        self.readers = Readers([self.memory])  # type: ignore[list-item]
        self.experts = Experts(self.readers, LAYOUT, N_USED)
        self.experts.watch_idle()
        self.random = random.Random(7)
        orders = [self.random.sample(range(N_EXPERT), N_EXPERT) for _ in range(N_LAYER)]
        self.weights = [[1.0 / (1 + order.index(e)) ** skew for e in range(N_EXPERT)] for order in orders]

    def route(self, layer: int) -> set[int]:
        chosen: set[int] = set()
        while len(chosen) < N_USED:
            chosen.add(self.random.choices(range(N_EXPERT), self.weights[layer])[0])
        return chosen

    def evaluate(self, n_tokens: int = 1, until: int = N_LAYER) -> None:
        self.experts.begin(n_tokens)
        for layer in range(until):
            counts = Counter(expert for _ in range(n_tokens) for expert in self.route(layer))
            self.experts.chosen(str(layer), counts, n_tokens)
            needed = {piece.start for expert in counts for piece in LAYOUT.slices[layer * N_EXPERT + expert]}
            with self.memory.lock:
                assert needed <= self.memory.here
            self.experts.done(str(layer))
        self.experts.end()


@pytest.fixture
def mixture() -> Iterator[Mixture]:
    mixture = Mixture()
    mixture.readers.start()
    yield mixture
    mixture.readers.close()


def test_what_is_chosen_is_there_within_the_room(mixture: Mixture) -> None:
    room = 30 * UNIT
    mixture.experts.resize(room)
    for _ in range(100):
        mixture.evaluate()
    assert mixture.memory.most * SIZE <= room


def test_what_the_router_uses_is_kept(mixture: Mixture) -> None:
    mixture.experts.resize(30 * UNIT)
    for _ in range(200):
        mixture.evaluate()
    before = mixture.experts.missed_count, mixture.experts.chosen_count
    for _ in range(200):
        mixture.evaluate()
    missed, chosen = mixture.experts.missed_count - before[0], mixture.experts.chosen_count - before[1]
    # Kept at random, two of three would be missed.
    assert missed < 0.45 * chosen


def test_what_the_router_turns_to_is_kept_later(mixture: Mixture) -> None:
    mixture.experts.resize(30 * UNIT)
    for _ in range(1000):
        mixture.evaluate()
    for weights in mixture.weights:
        weights.reverse()
    for _ in range(2500):
        mixture.evaluate()
    before = mixture.experts.missed_count, mixture.experts.chosen_count
    for _ in range(200):
        mixture.evaluate()
    missed, chosen = mixture.experts.missed_count - before[0], mixture.experts.chosen_count - before[1]
    assert missed < 0.5 * chosen


def test_large_batches_between_single_tokens(mixture: Mixture) -> None:
    mixture.experts.resize(40 * UNIT)
    for n_tokens in (64, 1, 1, 8, 1, 64, 1):
        mixture.evaluate(n_tokens)


def test_a_stopped_evaluation_is_followed_by_a_whole_one(mixture: Mixture) -> None:
    mixture.experts.resize(30 * UNIT)
    for until in (1, 3, N_LAYER, 2, N_LAYER):
        mixture.evaluate(1, until)


def test_room_changes_in_both_directions(mixture: Mixture) -> None:
    for units in (90, 60, 25, 50, 20, 96, 40):
        mixture.experts.resize(units * UNIT)
        for _ in range(5):
            mixture.evaluate()
        mixture.memory.most = 0
        for _ in range(5):
            mixture.evaluate()
        assert mixture.memory.most * SIZE <= units * UNIT


def test_what_somebody_else_has_read_is_not_left_lying(mixture: Mixture) -> None:
    mixture.memory.here = {piece.start for slices in LAYOUT.slices for piece in slices}
    room = 30 * UNIT
    mixture.experts.resize(room)
    until = time.monotonic() + 20
    while len(mixture.memory.here) * SIZE > room and time.monotonic() < until:
        mixture.evaluate()
    for _ in range(20):
        mixture.evaluate()
    mixture.memory.most = 0
    for _ in range(20):
        mixture.evaluate()
    assert mixture.memory.most * SIZE <= room


def test_everything_is_kept_where_everything_fits(mixture: Mixture) -> None:
    mixture.experts.resize(10 * LAYOUT.bytes)
    for _ in range(100):
        mixture.evaluate()
    reads = mixture.memory.reads
    for _ in range(20):
        mixture.evaluate(4)
    assert mixture.memory.reads - reads <= 2 * N_LAYER * N_EXPERT - reads


def test_what_the_kernel_took_is_read_again(mixture: Mixture) -> None:
    mixture.experts.resize(60 * UNIT)
    for _ in range(20):
        mixture.evaluate()
    with mixture.memory.lock:
        mixture.memory.here.clear()
    mixture.experts.forget()
    for _ in range(20):
        mixture.evaluate()


def test_too_little_room_does_not_stand_still(mixture: Mixture) -> None:
    mixture.experts.resize(UNIT)
    for _ in range(5):
        mixture.evaluate()
        mixture.evaluate(16)


def test_what_more_memory_would_bring(mixture: Mixture) -> None:
    assert mixture.experts.misses() is None
    mixture.experts.resize(30 * UNIT)
    for _ in range(100):
        mixture.evaluate()
    misses = mixture.experts.misses()
    assert misses is not None
    missed = [misses.at(units * UNIT) for units in (0, 20, 40, 96)]
    known = [value for value in missed if value is not None]
    assert known == sorted(known, reverse=True)
    assert known[0] > known[1] > known[2] >= 0
    assert known[3] == 0


def test_what_is_known_of_experts_does_not_grow_with_the_tokens(mixture: Mixture) -> None:
    for room in (N_LAYER * N_EXPERT, 30):
        mixture.experts.resize(room * UNIT)
        for number in range(150):
            mixture.evaluate()
            if number % 20 == 0:
                mixture.experts.forget()
        listed = [expert for _, expert in mixture.experts._order]
        assert len(listed) == len(set(listed))
        assert sum(mixture.experts._listed) == len(listed)


def test_a_layer_that_lacks_nothing_wakes_nobody(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture.experts.resize((N_LAYER + 1) * N_EXPERT * UNIT)
    for _ in range(20):
        mixture.evaluate()
    with mixture.readers.changed:
        everything = 2 * N_LAYER * N_EXPERT
        assert mixture.readers.changed.wait_for(lambda: len(mixture.memory.here) == everything, timeout=30)
    woken: list[int] = []
    monkeypatch.setattr(mixture.readers, "wake", woken.append)
    for _ in range(5):
        mixture.evaluate()
    # Once, when a token is over.
    assert woken == [1] * 5


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> tuple[Mixture, list[int]]:
    """A mixture whose readers stand still, filled as far as its room goes, and how many of them were woken."""
    mixture = Mixture()
    mixture.experts.resize(30 * UNIT)
    while job := mixture.readers._next():
        job.owner.finished(job)
    woken: list[int] = []
    monkeypatch.setattr(mixture.readers, "wake", woken.append)
    return mixture, woken


def test_what_must_go_before_a_large_batch_goes_at_once(by_hand: tuple[Mixture, list[int]]) -> None:
    mixture, woken = by_hand
    mixture.experts.begin(64)
    assert woken == [len(mixture.experts._drops)] and woken[0] > 0


def test_what_is_wanted_again_while_it_goes_is_read_by_several(by_hand: tuple[Mixture, list[int]]) -> None:
    mixture, woken = by_hand
    here = next(expert for expert, listed in enumerate(mixture.experts._listed) if listed)
    mixture.experts._drop(here)
    mixture.experts._read(here)
    for _ in LAYOUT.slices[here]:
        job = mixture.readers._next()
        assert job is not None and job.dropping and not woken
        job.owner.finished(job)
    assert woken == [len(LAYOUT.slices[here])]

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pagewise.placement.plan import Block, Plan, Span, blocks_of, make_plan
from pagewise.placement.readers import Readers
from pagewise.placement.streamer import Streamer

PAGE = 4096
STEPS = 8
BLOCKS = blocks_of(
    [Span(0, step * 10 * PAGE, (step + 1) * 10 * PAGE, step) for step in range(STEPS)], [80 * PAGE], PAGE
)


class Memory:
    """A file of which it is known what is in memory; it checks what it is asked."""

    def __init__(self) -> None:
        self.here: set[int] = {block.start for block in BLOCKS}
        self.most = 0
        self.read_bytes = 0
        self.refuse = False
        self.lock = threading.Lock()

    def read(self, start: int, end: int) -> None:
        if self.refuse:
            raise OSError(5, "Input/output error")
        with self.lock:
            self.read_bytes += (end - start) * (start not in self.here)
            self.here.add(start)
            self.most = max(self.most, len(self.here))

    keep = read

    def drop(self, start: int, end: int) -> None:
        with self.lock:
            self.here.discard(start)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def readers(memory: Memory) -> Iterator[Readers]:
    readers = Readers([memory])  # type: ignore[list-item]
    yield readers
    readers.close()


@pytest.fixture
def streamer(readers: Readers) -> Streamer:
    streamer = Streamer(readers, BLOCKS, STEPS)
    readers.start()
    return streamer


def evaluate(streamer: Streamer, memory: Memory, until: int = STEPS) -> None:
    streamer.begin()
    for step in range(until):
        needed = {block.start for block in BLOCKS if block.first <= step <= block.last}
        assert needed <= memory.here
        if step < STEPS - 1:
            streamer.done(step)
    streamer.end()


def test_every_step_has_its_blocks_within_the_room(streamer: Streamer, memory: Memory) -> None:
    room = 60 * PAGE
    plan = make_plan(BLOCKS, room, 12 * PAGE)
    streamer.apply(plan)
    evaluate(streamer, memory)
    memory.most, memory.read_bytes = 0, 0
    for _ in range(20):
        evaluate(streamer, memory)
    assert memory.most * PAGE <= plan.kept_bytes + plan.window
    # What was read ahead of a token that has not come may count twice.
    assert memory.read_bytes <= 20 * plan.streamed_bytes + plan.window
    assert memory.read_bytes >= 19 * plan.streamed_bytes - plan.window


def test_all_kept_reads_nothing(streamer: Streamer, memory: Memory) -> None:
    streamer.apply(make_plan(BLOCKS, 80 * PAGE))
    evaluate(streamer, memory)
    assert memory.read_bytes == 0


def test_a_window_too_small_for_a_step_does_not_stand_still(streamer: Streamer, memory: Memory) -> None:
    streamer.apply(Plan(tuple(range(len(BLOCKS))), 80 * PAGE, 0, PAGE))
    for _ in range(3):
        evaluate(streamer, memory)


def test_a_stopped_evaluation_is_followed_by_a_whole_one(streamer: Streamer, memory: Memory) -> None:
    streamer.apply(make_plan(BLOCKS, 50 * PAGE, 12 * PAGE))
    for until in (1, 5, 3, STEPS, 2, STEPS):
        evaluate(streamer, memory, until)


def test_several_graphs_in_one_evaluation(streamer: Streamer, memory: Memory) -> None:
    streamer.apply(make_plan(BLOCKS, 50 * PAGE, 12 * PAGE))
    streamer.begin()
    for _ in range(3):
        for step in range(STEPS - 1):
            streamer.done(step)
            assert {block.start for block in BLOCKS if block.first == step + 1} <= memory.here
    streamer.end()
    evaluate(streamer, memory)


def test_plans_change_between_evaluations_in_both_directions(streamer: Streamer, memory: Memory) -> None:
    for room in (80, 60, 30, 45, 10, 70, 80, 55):
        plan = make_plan(BLOCKS, room * PAGE, 8 * PAGE)
        streamer.apply(plan)
        for _ in range(3):
            evaluate(streamer, memory)
        memory.most = 0
        evaluate(streamer, memory)
        assert memory.most * PAGE <= plan.kept_bytes + plan.window


def test_what_the_kernel_took_is_read_again(streamer: Streamer, memory: Memory) -> None:
    streamer.apply(make_plan(BLOCKS, 60 * PAGE, 12 * PAGE))
    evaluate(streamer, memory)
    memory.here -= {block.start for index, block in enumerate(BLOCKS) if index not in streamer.plan.streamed}
    streamer.forget()
    evaluate(streamer, memory)


def test_a_refused_read_is_remembered_and_stops_nothing(streamer: Streamer, readers: Readers, memory: Memory) -> None:
    streamer.apply(make_plan(BLOCKS, 60 * PAGE, 12 * PAGE))
    memory.refuse = True
    streamer.begin()
    streamer.done(0)
    streamer.end()
    assert readers.failure is not None


def test_what_is_kept_is_read_while_the_window_is_full(streamer: Streamer, memory: Memory) -> None:
    memory.here.clear()
    plan = make_plan(BLOCKS, 60 * PAGE, 2 * PAGE)
    streamer.apply(plan)
    streamer.forget()
    evaluate(streamer, memory)
    kept = {block.start for index, block in enumerate(BLOCKS) if index not in plan.streamed}
    assert kept <= memory.here


def test_what_came_in_unfollowed_is_dropped(streamer: Streamer, readers: Readers, memory: Memory) -> None:
    plan = make_plan(BLOCKS, 50 * PAGE, 4 * PAGE)
    streamer.apply(plan)
    evaluate(streamer, memory)
    with memory.lock:
        memory.here |= {block.start for block in BLOCKS}
    streamer.sweep()
    evaluate(streamer, memory)
    memory.most = 0
    evaluate(streamer, memory)
    assert memory.most * PAGE <= plan.kept_bytes + plan.window


def test_the_disk_is_measured_by_what_is_streamed(streamer: Streamer, readers: Readers, memory: Memory) -> None:
    assert readers.bandwidth is None
    streamer.apply(make_plan(BLOCKS, 50 * PAGE, 4 * PAGE))
    for _ in range(3):
        evaluate(streamer, memory)
    assert readers.bandwidth is not None
    assert readers.read_bytes >= 3 * streamer.plan.streamed_bytes - streamer.plan.window


def test_pinned_and_shared_blocks_last_until_their_last_step() -> None:
    shared = blocks_of([Span(0, 0, 6000, 0), Span(0, 6000, 12288, 1)], [12288], PAGE)
    assert shared == (
        Block(0, 0, 4096, 0, 0, False),
        Block(0, 4096, 8192, 0, 1, False),
        Block(0, 8192, 12288, 1, 1, False),
    )

"""Streams blocks: reads them ahead of the step that needs them, and drops them behind the last one that did.

What is read is page cache under llama.cpp's own mapping, so that a late or a lost block costs time and nothing else:
the kernel then reads it when it is touched.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from enum import Enum

from pagewise.placement.plan import Block, Plan
from pagewise.placement.readers import Job, Readers

_SETTLED = 0.8


class State(Enum):
    """What is known of a block. A kept one becomes HERE once, and stays so."""

    AWAY = 0
    READING = 1
    HERE = 2
    DROPPING = 3


class Streamer:
    """Follows the computation, told by ``begin``, ``done`` and ``end``, and keeps the readers busy.

    The computing thread calls; the lock is held for bookkeeping alone, never across a system call.
    """

    def __init__(self, readers: Readers, blocks: Sequence[Block], n_steps: int) -> None:
        self._readers = readers
        self._changed = readers.changed
        self._blocks = blocks
        self._n_steps = n_steps
        self._state = [State.AWAY] * len(blocks)
        self._streamed = [False] * len(blocks)
        self._ending: list[list[int]] = [[] for _ in range(n_steps)]
        for index, block in enumerate(blocks):
            self._ending[block.last].append(index)
        self._active: list[int] = []
        self._firsts: list[int] = []
        self._filling = False
        """Whether some block that is to be kept may still have to be asked for."""
        self._drops: deque[int] = deque()
        self._window = 0
        self._inside = 0
        self._step = 0
        self._waited = -1
        self._began_s = 0.0
        self._waited_s = 0.0
        self.waited_s = 0.0
        """Time that the computing thread has waited for blocks, all in all."""
        self.step_s: float | None = None
        """Time that one step takes when it does not wait, over the last evaluations of one token."""
        self.plan = Plan((), 0, sum(block.bytes for block in blocks), 0)
        readers.sources.append(self._take)

    def apply(self, plan: Plan) -> None:
        """Take a plan into force, between two evaluations. What it no longer keeps is dropped at once."""
        with self._changed:
            self.plan = plan
            self._window = plan.window
            streamed = set(plan.streamed)
            for index in range(len(self._blocks)):
                if index in streamed and not self._streamed[index]:
                    self._streamed[index] = True
                    self._inside += self._blocks[index].bytes
                    if self._state[index] in (State.AWAY, State.HERE):
                        # Also what we have not read: the page cache may hold it from the load.
                        self._drop(index)
                elif index not in streamed and self._streamed[index]:
                    self._streamed[index] = False
                    if self._state[index] is not State.AWAY:
                        self._inside -= self._blocks[index].bytes
            self._select()
            self._readers.wake()

    def forget(self) -> None:
        """What is kept may have been taken by the kernel: read it in again where it is missing, once."""
        with self._changed:
            for index, state in enumerate(self._state):
                if state is State.HERE and not self._streamed[index]:
                    self._state[index] = State.AWAY
            self._select()
            self._readers.wake()

    def sweep(self) -> None:
        """An evaluation has gone by unfollowed: whatever it brought in of the streamed blocks is dropped."""
        with self._changed:
            for index, state in enumerate(self._state):
                if not self._streamed[index]:
                    continue
                if state is State.AWAY:
                    self._inside += self._blocks[index].bytes
                    self._drop(index)
                elif state is State.HERE:
                    self._drop(index)
            self._readers.wake()

    def begin(self) -> None:
        """An evaluation is about to begin; returns when its first step has its blocks."""
        with self._changed:
            self._step = 0
            self._began_s, self._waited_s = time.monotonic(), 0.0
            self._wait_for(0)

    def done(self, step: int) -> None:
        """``step`` has been computed; returns when the next one has its blocks."""
        with self._changed:
            if step == self._step - 1:
                return
            if step < self._step:
                # Another graph of the same evaluation has begun.
                self._finish()
                self._step = 0
            for passed in range(self._step, step + 1):
                self._leave(passed)
            self._step = step + 1
            self._wake()
            if self._step < self._n_steps:
                self._wait_for(self._step)
            else:
                self._step = 0

    def end(self, *, one_token: bool = True) -> None:
        """The evaluation has ended, or was stopped: whatever it left is dropped, and the next one is read ahead."""
        with self._changed:
            if self._step:
                self._finish()
                if one_token:
                    took = (time.monotonic() - self._began_s - self._waited_s) / self._n_steps
                    self.step_s = took if self.step_s is None else _SETTLED * self.step_s + (1 - _SETTLED) * took
                self._step = 0
            if any(self._state[index] is State.HERE and not self._streamed[index] for index in self._active):
                self._select()
            self._wake()

    def inside(self) -> set[int]:
        """Steps of which streamed blocks are in memory, or on their way, at this moment."""
        with self._changed:
            return {
                self._blocks[index].first
                for index in self._active
                if self._streamed[index] and self._state[index] in (State.READING, State.HERE)
            }

    def _finish(self) -> None:
        for passed in range(self._step, self._n_steps):
            self._leave(passed)

    def _leave(self, step: int) -> None:
        for index in self._ending[step]:
            if self._streamed[index] and self._state[index] is State.HERE:
                self._drop(index)

    def _drop(self, index: int) -> None:
        self._state[index] = State.DROPPING
        self._drops.append(index)

    def _wake(self) -> None:
        if self._drops:
            # Each makes room for a read, by the same thread.
            self._readers.wake(len(self._drops))

    def _wait_for(self, step: int) -> None:
        due = [index for index in self._of(step) if self._state[index] is not State.HERE]
        if not due:
            return
        self._waited = step
        self._readers.wake()
        began = time.monotonic()
        while not self._readers.closed and any(self._state[index] is not State.HERE for index in due):
            self._changed.wait()
        waited = time.monotonic() - began
        self._waited_s += waited
        self.waited_s += waited
        self._waited = -1

    def _of(self, step: int) -> list[int]:
        return self._active[bisect_left(self._firsts, step) : bisect_left(self._firsts, step + 1)]

    def _select(self) -> None:
        """The blocks that are to be read when their turn comes: streamed ones, and kept ones not yet here."""
        self._active = [
            index for index in range(len(self._blocks)) if self._streamed[index] or self._state[index] is not State.HERE
        ]
        self._firsts = [self._blocks[index].first for index in self._active]
        self._filling = True

    def _next(self) -> int | None:
        """The block to read next, walking from the step that is computed, round to the next token's."""
        start = bisect_left(self._firsts, self._step)
        full = False
        for at in range(start - len(self._active), start):
            index = self._active[at]
            if self._state[index] is not State.AWAY:
                continue
            if not self._streamed[index]:
                return index
            block = self._blocks[index]
            if block.first <= self._waited <= block.last or not (full or self._inside + block.bytes > self._window):
                self._inside += block.bytes
                return index
            full = True
            if not self._filling:
                return None
            # What is to be kept can still be read.
        self._filling = False
        return None

    def _take(self) -> Job | None:
        dropping = bool(self._drops)
        index = self._drops.popleft() if dropping else self._next()
        if index is None:
            return None
        self._state[index] = State.DROPPING if dropping else State.READING
        block = self._blocks[index]
        return Job(self, index, block.part, block.start, block.end, dropping, not self._streamed[index])

    def finished(self, job: Job) -> None:
        """A block has come, or gone."""
        self._state[job.key] = State.AWAY if job.dropping else State.HERE
        if not job.dropping:
            return
        if self._streamed[job.key]:
            self._inside -= self._blocks[job.key].bytes
        else:
            # It is to be kept after all.
            self._filling = True

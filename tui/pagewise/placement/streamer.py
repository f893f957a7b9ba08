"""Streams blocks: reads them ahead of the step that needs them, and drops them behind the last one that did.

What is read is page cache under llama.cpp's own mapping, so that a late or a lost block costs time and nothing else:
the kernel then reads it when it is touched.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from enum import Enum

from pagewise.placement.pages import MappedFile
from pagewise.placement.plan import Block, Plan

READERS = 4
"""Some wait for the disk while others map what has come, or drop; more were not faster."""


class State(Enum):
    """What is known of a block. A kept one becomes HERE once, and stays so."""

    AWAY = 0
    READING = 1
    HERE = 2
    DROPPING = 3


class Streamer:
    """Follows the computation, told by ``begin``, ``done`` and ``end``, with threads that read and drop.

    The computing thread calls; the lock is held for bookkeeping alone, never across a system call.
    """

    def __init__(self, files: Sequence[MappedFile], blocks: Sequence[Block], n_steps: int) -> None:
        self._files = files
        self._blocks = blocks
        self._n_steps = n_steps
        self._changed = threading.Condition()
        self._state = [State.AWAY] * len(blocks)
        self._streamed = [False] * len(blocks)
        self._ending: list[list[int]] = [[] for _ in range(n_steps)]
        for index, block in enumerate(blocks):
            self._ending[block.last].append(index)
        self._active: list[int] = []
        self._firsts: list[int] = []
        self._drops: deque[int] = deque()
        self._window = 0
        self._inside = 0
        self._step = 0
        self._waited = -1
        self._closed = False
        self.failure: OSError | None = None
        """The last read or drop that the system refused; the block is then left to the kernel."""
        self.plan = Plan((), 0, sum(block.bytes for block in blocks), 0)
        self._threads = [threading.Thread(target=self._work, name=f"reader {n}", daemon=True) for n in range(READERS)]
        for thread in self._threads:
            thread.start()

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
            self._changed.notify_all()

    def forget(self) -> None:
        """What is kept may have been taken by the kernel: read it in again where it is missing, once."""
        with self._changed:
            for index, state in enumerate(self._state):
                if state is State.HERE and not self._streamed[index]:
                    self._state[index] = State.AWAY
            self._select()
            self._changed.notify_all()

    def begin(self) -> None:
        """An evaluation is about to begin; returns when its first step has its blocks."""
        with self._changed:
            self._step = 0
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
            if self._step < self._n_steps:
                self._wait_for(self._step)
            else:
                self._step = 0
                self._changed.notify_all()

    def end(self) -> None:
        """The evaluation has ended, or was stopped: whatever it left is dropped, and the next one is read ahead."""
        with self._changed:
            if self._step:
                self._finish()
                self._step = 0
            if any(self._state[index] is State.HERE and not self._streamed[index] for index in self._active):
                self._select()
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads. The files may be closed afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

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

    def _wait_for(self, step: int) -> None:
        self._waited = step
        self._changed.notify_all()
        while not self._closed and any(self._is_due(index, step) for index in self._of(step)):
            self._changed.wait()
        self._waited = -1

    def _is_due(self, index: int, step: int) -> bool:
        return self._state[index] is not State.HERE and self._blocks[index].first <= step

    def _of(self, step: int) -> list[int]:
        return self._active[bisect_left(self._firsts, step) : bisect_left(self._firsts, step + 1)]

    def _select(self) -> None:
        """The blocks that are to be read when their turn comes: streamed ones, and kept ones not yet here."""
        self._active = [
            index for index in range(len(self._blocks)) if self._streamed[index] or self._state[index] is not State.HERE
        ]
        self._firsts = [self._blocks[index].first for index in self._active]

    def _next(self) -> int | None:
        """The block to read next, walking from the step that is computed, round to the next token's."""
        start = bisect_left(self._firsts, self._step)
        for index in (*self._active[start:], *self._active[:start]) if start else self._active:
            if self._state[index] is not State.AWAY:
                continue
            block = self._blocks[index]
            if not self._streamed[index]:
                return index
            if self._inside + block.bytes <= self._window or block.first <= self._waited <= block.last:
                self._inside += block.bytes
                return index
            return None
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                index = None
                while not self._closed and not self._drops and (index := self._next()) is None:
                    self._changed.wait()
                if self._closed:
                    return
                dropping = bool(self._drops)
                if dropping:
                    index = self._drops.popleft()
                assert index is not None
                self._state[index] = State.DROPPING if dropping else State.READING
            failure = self._run(self._blocks[index], dropping)
            with self._changed:
                self.failure = failure or self.failure
                self._state[index] = State.AWAY if dropping else State.HERE
                if dropping and self._streamed[index]:
                    self._inside -= self._blocks[index].bytes
                self._changed.notify_all()

    def _run(self, block: Block, dropping: bool) -> OSError | None:
        file = self._files[block.part]
        try:
            if dropping:
                file.drop(block.start, block.end)
            else:
                file.read(block.start, block.end)
        except OSError as error:
            return error
        return None

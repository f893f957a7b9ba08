"""Evaluating tokens, and the record of what the KV cache holds."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.pieces import PieceSize
from pagewise.engine.llamacpp.sampler import Sampler

_DONE, _NO_ROOM, _ABORTED = 0, 1, 2
_PARTIAL_ONLY = 1
_CHECKPOINT_LIMIT = 64 * 1024 * 1024
_CHECKPOINTS = 4


class Reused(NamedTuple):
    """Prompt tokens that need not be evaluated again, and why there are not more."""

    tokens: int
    note: str


class Aborted(Exception):
    """Evaluation was stopped on request; what the KV cache holds is known."""


class ContextFull(Exception):
    """No room is left in the KV cache."""


class _Checkpoint(NamedTuple):
    ids: tuple[int, ...]
    state: Any


class Around(Protocol):
    """Something that goes along with every evaluation."""

    def begin(self, n_tokens: int) -> None:
        """One of so many tokens is about to begin."""

    def end(self) -> None:
        """It has ended, however it did."""


class Sequence:
    """The one sequence of a context: what was evaluated, token by token."""

    def __init__(self, context: Context, pieces: PieceSize, around: Around | None = None) -> None:
        """``around`` is told of every evaluation."""
        self.context = context
        self.ids: list[int] = []
        """The tokens in the KV cache, in order."""
        self.inside_ns = 0
        """Time spent inside llama.cpp so far."""
        self._pieces = pieces
        self._around = around
        self._checkpoints: list[_Checkpoint] = []
        self.outdated = ""
        """Why what the cache holds is of no use for another reply; empty while it is."""
        model = context.model
        self._stateful = model.recurrent or model.hybrid
        self._window = max(0, model.n_swa)
        """Looked at even where the whole cache is kept: a copy that was put back has no cells outside the window."""
        self._one = (ctypes.c_int32 * 1)()
        self._single = llama_cpp.llama_batch_get_one(self._one, 1)

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_clear(self.context.memory, True)
        self.ids = []
        self._checkpoints = []

    def outdate(self, why: str) -> None:
        """What the KV cache holds was computed with other weights: the reply in hand may go on from it, no other."""
        self.outdated = why

    @property
    def checkpoints(self) -> list[tuple[int, Any]]:
        """Copies of what cannot be cut back, where they belong to what the cache holds: (tokens, state)."""
        held = tuple(self.ids)
        return [(len(kept.ids), kept.state) for kept in self._checkpoints if kept.ids == held[: len(kept.ids)]]

    def adopt(self, ids: tuple[int, ...], checkpoints: list[tuple[int, Any]]) -> None:
        """The KV cache was filled from a copy, and holds these."""
        self.ids = list(ids)
        self._checkpoints = [_Checkpoint(ids[:length], state) for length, state in checkpoints]

    def reuse(self, prompt: list[int]) -> Reused:
        """Cut the KV cache back to what is right for ``prompt``; the prompt's last token is always left to evaluate."""
        if self.outdated:
            why, self.outdated = self.outdated, ""
            self.clear()
            return Reused(0, why)
        common = common_prefix(self.ids, prompt)
        keep = min(common, len(prompt) - 1)
        if keep == len(self.ids):
            return Reused(keep, "")
        note = f"the conversation differs from the cache after {common:,} tokens" if common < len(self.ids) else ""
        if keep == 0:
            self._forget()
            return Reused(0, note)
        if self._window and not self._window_complete(keep):
            return self._from_checkpoint(keep, f"a sliding window of {self._window:,} tokens no longer reaches back")
        if not llama_cpp.llama_memory_seq_rm(self.context.memory, 0, keep, -1):
            return self._from_checkpoint(keep, "a recurrent state cannot be taken back")
        del self.ids[keep:]
        return Reused(keep, note)

    def prefill(self, prompt: list[int], progress: Callable[[int], None]) -> None:
        """Evaluate what the cache lacks of ``prompt``; ``progress`` gets the tokens done. Raises Aborted, Failed."""
        last = len(prompt) - 1
        if self._needs_checkpoints:
            self._checkpoint()
            self._evaluate(prompt, last, progress, output=False)
            self._checkpoint()
        self._evaluate(prompt, last + 1, progress, output=True)

    def evaluate(self, id: int) -> None:
        """Evaluate one sampled token. Raises Aborted, ContextFull, Failed."""
        self._one[0] = id
        self._decode(self._single, (id,))

    def evaluate_batch(self, ids: list[int], outputs: int = 1) -> None:
        """Evaluate up to ``n_batch`` tokens at once, with logits of the last ``outputs``. Raises as ``evaluate``."""
        # The batch only points at them.
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        wanted = (ctypes.c_int8 * len(ids))(*[0] * (len(ids) - outputs), *[1] * outputs)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        batch.logits = ctypes.cast(wanted, ctypes.POINTER(ctypes.c_int8))
        self._decode(batch, ids)

    def sample(self, sampler: Sampler) -> int:
        """The next token, from the logits of the last one that was evaluated."""
        before = time.perf_counter_ns()
        id: int = llama_cpp.llama_sampler_sample(sampler.pointer, self.context.pointer, -1)
        self.inside_ns += time.perf_counter_ns() - before
        return id

    @property
    def used(self) -> int:
        """The sequence's last position + 1."""
        return int(llama_cpp.llama_memory_seq_pos_max(self.context.memory, 0)) + 1

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.context.n_ctx - len(self.ids)

    def _evaluate(self, prompt: list[int], end: int, progress: Callable[[int], None], *, output: bool) -> None:
        while (start := len(self.ids)) < end:
            count = min(self._pieces.size, end - start)
            ids = (ctypes.c_int32 * count)(*prompt[start : start + count])
            wanted = (ctypes.c_int8 * count)()
            wanted[count - 1] = output and start + count == end
            batch = llama_cpp.llama_batch_get_one(ids, count)
            batch.logits = ctypes.cast(wanted, ctypes.POINTER(ctypes.c_int8))
            before = time.perf_counter()
            self._decode(batch, prompt[start : start + count])
            self._pieces.measured(count, time.perf_counter() - before)
            progress(len(self.ids))

    def _decode(self, batch: Any, ids: list[int] | tuple[int, ...]) -> None:
        mark = log.mark()
        before = time.perf_counter_ns()
        if self._around is not None:
            self._around.begin(len(ids))
        result = llama_cpp.llama_decode(self.context.pointer, batch)
        llama_cpp.llama_synchronize(self.context.pointer)
        if self._around is not None:
            self._around.end()
        self.inside_ns += time.perf_counter_ns() - before
        if result == _DONE:
            self.ids.extend(ids)
            return
        self._believe_memory(ids)
        if result == _ABORTED:
            raise Aborted
        if result == _NO_ROOM:
            raise ContextFull
        raise Failed(
            "The model could not be run",
            f"llama.cpp says: {log.reason(mark) or f'decode failed with code {result}'}.",
            "Try again; if it happens again, use a smaller n_ctx or n_ubatch, or fewer layers on the GPU.",
        )

    def _believe_memory(self, ids: list[int] | tuple[int, ...]) -> None:
        """After an aborted or failed decode: keep of our record what the memory says that it holds."""
        if self._stateful:
            # A recurrent state that was half advanced is of no use, and cannot be removed in part.
            self._forget()
            return
        held = self.used
        known = [*self.ids, *ids]
        llama_cpp.llama_memory_seq_rm(self.context.memory, 0, min(held, len(known)), -1)
        self.ids = known[:held]

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(self.context.memory, True)
        self.ids = []

    @property
    def _needs_checkpoints(self) -> bool:
        return self._stateful or (bool(self._window) and not self.context.swa_full)

    def _window_complete(self, keep: int) -> bool:
        first: int = llama_cpp.llama_memory_seq_pos_min(self.context.memory, 0)
        return 0 <= first <= max(0, keep - self._window)

    def _checkpoint(self) -> None:
        """Remember the part of the cache that cannot be cut back, if it is small enough to copy every turn."""
        ids = tuple(self.ids)
        if not ids or any(kept.ids == ids for kept in self._checkpoints):
            return
        pointer = self.context.pointer
        size = llama_cpp.llama_state_seq_get_size_ext(pointer, 0, _PARTIAL_ONLY)
        if not 0 < size <= _CHECKPOINT_LIMIT:
            return
        state = (ctypes.c_uint8 * size)()
        if llama_cpp.llama_state_seq_get_data_ext(pointer, state, size, 0, _PARTIAL_ONLY) == size:
            self._checkpoints = [*self._checkpoints[1 - _CHECKPOINTS :], _Checkpoint(ids, state)]

    def _from_checkpoint(self, keep: int, why: str) -> Reused:
        common = tuple(self.ids[:keep])
        usable = [kept for kept in self._checkpoints if kept.ids == common[: len(kept.ids)]]
        for kept in sorted(usable, key=lambda kept: len(kept.ids), reverse=True):
            size, length = ctypes.sizeof(kept.state), len(kept.ids)
            pointer = self.context.pointer
            if llama_cpp.llama_state_seq_set_data_ext(
                pointer, kept.state, size, 0, _PARTIAL_ONLY
            ) == size and llama_cpp.llama_memory_seq_rm(self.context.memory, 0, length, -1):
                self.ids = list(kept.ids)
                note = "" if length == keep else f"{why}: went back to the checkpoint at {length:,} tokens"
                return Reused(length, note)
        self._forget()
        return Reused(0, f"{why}, and no checkpoint fits")


def common_prefix(left: list[int], right: list[int]) -> int:
    """Length of the longest common beginning."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    return next(index for index in range(limit) if left[index] != right[index])


class Steps:
    """Produces a reply step by step. A step may yield several tokens: here it is one, with drafted ones it is more."""

    def __init__(self, sequence: Sequence, sampler: Sampler) -> None:
        self.sampler = sampler
        self._sequence = sequence
        self._pending: int | None = None

    @property
    def ids(self) -> list[int]:
        """Prompt and reply so far, what is not evaluated yet included."""
        return [*self._sequence.ids, *(() if self._pending is None else (self._pending,))]

    def step(self) -> tuple[int, ...]:
        """Evaluate what was sampled last and sample on. Empty at the end of the reply.

        Raises Aborted, ContextFull, Failed; what was yielded before stays valid.
        """
        if self._pending is not None:
            if self._sequence.room < 1:
                raise ContextFull
            self._sequence.evaluate(self._pending)
            self._pending = None
        id = self._sequence.sample(self.sampler)
        if self._sequence.context.model.vocabulary.is_end(id):
            return ()
        self._pending = id
        return (id,)

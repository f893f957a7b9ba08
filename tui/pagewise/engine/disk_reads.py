"""What was read from disk while each layer of a token ran: by the threads that compute, and ahead of them by readers.

A thread that touches a page which is not there reads it itself, with what the kernel reads around it: demand. The
readers that stream a model read whole blocks before they are needed: read-ahead. The kernel counts both to the byte,
each with the thread that asked for it; whatever is no reader computes.
"""

from __future__ import annotations

import resource
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from pagewise.models.gguf import GgufHeader
from pagewise.models.layers import layer_ranges
from pagewise.placement.readers import Done, Readers
from pagewise.placement.thread_counts import Counted, ProcessCounts

_TRIES = 3


class Mark(NamedTuple):
    """Since the token began."""

    demand: int | None
    """Bytes that the computing threads have read; None where that is not known."""
    stalls: int
    """Their major faults; those of all threads where they cannot be told apart."""


class ReadAhead(NamedTuple):
    """What the readers did for each layer while a token ran."""

    bytes: Counter[str]
    streamed: frozenset[str]
    """Layers of which something was read, or dropped."""


class LayerBytes(NamedTuple):
    """One entry a layer; each of them is empty where it is not known."""

    page_in: tuple[int, ...]
    demand: tuple[int, ...]
    read_ahead: tuple[int, ...]


class DiskReads:
    """Counts over one token at a time: ``begin``, a ``mark`` after each layer, ``end``. ``close`` it when done."""

    def __init__(self, headers: tuple[GgufHeader, ...], readers: Callable[[], Readers | None]) -> None:
        """``readers``: who reads ahead just now, if anybody does."""
        self._places = [_Places(header) for header in headers]
        self._find_readers = readers
        self._readers: Readers | None = None
        self._known = False
        self._then = Counted(0, 0)
        self._seen = Counted(0, 0)
        self._all_stalls = 0
        self._process: ProcessCounts | None
        try:
            self._process = ProcessCounts()
        except OSError:
            self._process = None

    def begin(self) -> None:
        """The token is about to begin."""
        self._readers = self._find_readers()
        self._seen = Counted(0, 0)
        if self._readers is not None:
            self._readers.note_jobs()
        self._all_stalls = _stalls()
        now = self._computing()
        self._known = now is not None
        self._then = now or Counted(0, 0)

    def mark(self) -> Mark:
        """Something of it has been computed."""
        now = self._computing() if self._known else None
        if now is None:
            self._known = False
            return Mark(None, _stalls() - self._all_stalls)
        now -= self._then
        self._seen = Counted(max(now.read_bytes, self._seen.read_bytes), max(now.stalls, self._seen.stalls))
        return Mark(*self._seen)

    def end(self) -> ReadAhead | None:
        """The token is over. What was read ahead meanwhile; None where that is not known."""
        readers, self._readers = self._readers, None
        if readers is None:
            return ReadAhead(Counter(), frozenset()) if self._known else None
        done = readers.noted_jobs()
        return self._by_layer(done) if self._known else None

    def close(self) -> None:
        """Let go of the counters."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _computing(self) -> Counted | None:
        """Of all threads that are no readers."""
        if self._process is None:
            return None
        if self._readers is None:
            return self._process.read()
        read = self._readers.counted()
        if read is None:
            return None
        for _ in range(_TRIES):
            whole = self._process.read()
            now = self._readers.counted()
            if now is None:
                return None
            quiet, read = now == read, now
            if quiet:
                break
        # Where readers were too quick, what they did meanwhile is taken off too; the next mark makes up for it.
        return whole - read

    def _by_layer(self, done: list[Done]) -> ReadAhead:
        came: Counter[str] = Counter()
        streamed: set[str] = set()
        for job, size in done:
            shares = self._places[job.part].shares(job.start, job.end)
            streamed |= shares.keys()
            whole = sum(shares.values())
            for name, share in shares.items():
                came[name] += size * share // whole
        return ReadAhead(came, frozenset(streamed))


def bytes_of_layers(
    names: Sequence[str], marks: Sequence[Mark], ahead: ReadAhead | None, grown: Mapping[str, int]
) -> LayerBytes:
    """What came of each layer, from the ``marks`` at their ends. ``grown``: how many more bytes of it are cached.

    A streamed layer is dropped again when it is done, so that its cached pages say nothing of what came: what was read
    stands for it. Some file systems do not count who reads: pages that came with a stall and nobody read tell of one.
    """
    page_in = tuple(grown.get(name, 0) for name in names) if grown else ()
    totals = [mark.demand for mark in marks if mark.demand is not None]
    if ahead is None or len(totals) < len(marks):
        return LayerBytes(page_in, (), ())
    if any(page_in) and marks[-1].stalls and not totals[-1] and not ahead.bytes.total():
        return LayerBytes(page_in, (), ())
    demand = tuple(later - earlier for earlier, later in pairwise([0, *totals]))
    read_ahead = tuple(ahead.bytes[name] for name in names)
    if grown:
        page_in = tuple(
            asked + early if name in ahead.streamed else came
            for name, came, asked, early in zip(names, page_in, demand, read_ahead, strict=True)
        )
    return LayerBytes(page_in, demand, read_ahead)


class _Places:
    """Which layer the bytes of one part of a model file belong to."""

    def __init__(self, header: GgufHeader) -> None:
        self._ranges = sorted((start, end, layer.name) for layer in layer_ranges(header) for start, end in layer.ranges)
        self._starts = [start for start, _, _ in self._ranges]

    def shares(self, start: int, end: int) -> dict[str, int]:
        """Layers that have something in a range, and how many bytes."""
        found: dict[str, int] = {}
        for low, high, name in self._ranges[max(0, bisect_right(self._starts, start) - 1) :]:
            if low >= end:
                break
            if (common := min(high, end) - max(low, start)) > 0:
                found[name] = found.get(name, 0) + common
        return found


def _stalls() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt

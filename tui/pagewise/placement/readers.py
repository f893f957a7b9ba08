"""Threads that read and drop for whoever has something to be read or dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from pagewise.placement.pages import MappedFile
from pagewise.placement.slices import wake_soon
from pagewise.placement.thread_counts import Counted, ThreadCounts

READERS = 4
"""Some wait for the disk while others map what has come, or drop; more were not faster."""
_MEMORY_BYTES = 2e9
"""About so many bytes back the bandwidth is remembered."""


class Owner(Protocol):
    """Whose job it was."""

    def finished(self, job: Job) -> None:
        """It is done, or was refused. Called with the lock held."""


class Job(NamedTuple):
    """Read or drop bytes ``start`` to ``end`` of one part of the file."""

    owner: Owner
    key: int
    part: int
    start: int
    end: int
    dropping: bool
    to_keep: bool = False
    """Whether it is to stay once it is there; it may be there already, so that the time tells nothing of the disk."""


class Done(NamedTuple):
    """A job that has been done, and the bytes that it read from disk."""

    job: Job
    bytes: int


Take = Callable[[], "Job | None"]


class Readers:
    """The threads. ``changed`` guards everything that ``sources`` and owners touch; no system call is made under it.

    Whoever waits for a job to end waits on ``changed``. The threads are woken by ``wake`` alone, and no more of them
    than there is to do: on a machine with few cores a thread that wakes for nothing takes time from the computation.
    """

    def __init__(self, files: Sequence[MappedFile], count: int = READERS) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self._idle = threading.Condition(lock)
        self.sources: list[Take] = []
        """Asked in this order, with the lock held, whenever a thread has nothing to do."""
        self.failure: OSError | None = None
        """The last read or drop that the system refused; the bytes are then left to the kernel."""
        self.read_bytes = 0
        """Read from disk so far, as far as it is known."""
        self._files = files
        self._closed = False
        self._reading = 0
        self._since = 0.0
        self._busy_s = 0.0
        self._busy_bytes = 0.0
        self._counts: list[ThreadCounts] = []
        self._done: list[Done] | None = None
        self._threads = [threading.Thread(target=self._work, name=f"reader {n}", daemon=True) for n in range(count)]

    @property
    def closed(self) -> bool:
        """Whether nothing will be read any more."""
        return self._closed

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second while something was being read from disk; None before anything was."""
        return self._busy_bytes / self._busy_s if self._busy_s > 0 and self._busy_bytes else None

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def wake(self, jobs: int = READERS) -> None:
        """So many jobs have come up. Call it with the lock held.

        A thread that has done its job looks for the next one by itself, so what a job brings about needs no waking.
        """
        self._idle.notify(jobs)

    def counted(self) -> Counted | None:
        """Read and stalled by all threads so far, the jobs in hand included; None where the kernel does not tell."""
        counts = self._counts
        if self._closed or len(counts) < len(self._threads):
            return None
        read = [one.read() for one in counts]
        return Counted(sum(one.read_bytes for one in read), sum(one.stalls for one in read))

    def note_jobs(self) -> None:
        """From now on jobs that end are noted."""
        with self.changed:
            self._done = []

    def noted_jobs(self) -> list[Done]:
        """Those that have ended since ``note_jobs``; no more are noted."""
        with self.changed:
            done, self._done = self._done, None
        return done or []

    def close(self) -> None:
        """End the threads. The files may be closed afterwards."""
        with self.changed:
            self._closed = True
            self._idle.notify_all()
            self.changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for one in self._counts:
            one.close()
        self._counts = []

    def _work(self) -> None:
        wake_soon()
        counts = self._count()
        job: Job | None = None
        came: int | None = None
        failure: OSError | None = None
        while True:
            with self.changed:
                if job is not None:
                    self._end(job, came, failure)
                    job = None
                while not self._closed and (job := self._next()) is None:
                    self._idle.wait()
                if self._closed or job is None:
                    return
                self._begin(job)
                counting = counts if self._done is not None else None
            before = counting.read_bytes() if counting is not None else 0
            failure = self._run(job)
            came = counting.read_bytes() - before if counting is not None else None

    def _count(self) -> ThreadCounts | None:
        """What the kernel counts of the thread that calls."""
        try:
            counts = ThreadCounts(threading.get_native_id())
        except OSError:
            return None
        with self.changed:
            self._counts.append(counts)
        return counts

    def _next(self) -> Job | None:
        for take in self.sources:
            job = take()
            if job is not None:
                return job
        return None

    def _begin(self, job: Job) -> None:
        if not job.dropping and not job.to_keep:
            if not self._reading:
                self._since = time.monotonic()
            self._reading += 1

    def _end(self, job: Job, came: int | None, failure: OSError | None) -> None:
        """A job has been done; so many bytes ``came`` from disk, as far as that was counted."""
        reads = not job.dropping and not job.to_keep
        size = job.end - job.start
        if self._done is not None:
            # What is streamed was not there before, so that all of it has come.
            self._done.append(Done(job, came if came is not None else size if reads else 0))
        self.failure = failure or self.failure
        if reads:
            now = time.monotonic()
            self._busy_s += now - self._since
            self._since = now
            self._reading -= 1
            self.read_bytes += size
            self._busy_bytes += size
            if self._busy_bytes > _MEMORY_BYTES:
                self._busy_bytes /= 2
                self._busy_s /= 2
        job.owner.finished(job)
        self.changed.notify_all()

    def _run(self, job: Job) -> OSError | None:
        file = self._files[job.part]
        try:
            if job.dropping:
                file.drop(job.start, job.end)
            elif job.to_keep:
                file.keep(job.start, job.end)
            else:
                file.read(job.start, job.end)
        except OSError as error:
            return error
        return None

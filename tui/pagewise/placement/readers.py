"""Threads that read and drop for whoever has something to be read or dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from pagewise.placement.pages import MappedFile
from pagewise.placement.slices import wake_soon

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


Take = Callable[[], "Job | None"]


class Readers:
    """The threads. ``changed`` guards everything that ``sources`` and owners touch; no system call is made under it."""

    def __init__(self, files: Sequence[MappedFile], count: int = READERS) -> None:
        self.changed = threading.Condition()
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

    def close(self) -> None:
        """End the threads. The files may be closed afterwards."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        wake_soon()
        while True:
            with self.changed:
                job = None
                while not self._closed and (job := self._next()) is None:
                    self.changed.wait()
                if self._closed or job is None:
                    return
                self._begin(job)
            failure = self._run(job)
            with self.changed:
                self._end(job)
                self.failure = failure or self.failure
                job.owner.finished(job)
                self.changed.notify_all()

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

    def _end(self, job: Job) -> None:
        if job.dropping or job.to_keep:
            return
        now = time.monotonic()
        self._busy_s += now - self._since
        self._since = now
        self._reading -= 1
        size = job.end - job.start
        self.read_bytes += size
        self._busy_bytes += size
        if self._busy_bytes > _MEMORY_BYTES:
            self._busy_bytes /= 2
            self._busy_s /= 2

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

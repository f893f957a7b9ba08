from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pagewise.placement.readers import READERS, Job, Readers
from pagewise.placement.slices import wake_soon


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_short_slice_leaves_policy_and_niceness_as_they_were() -> None:
    found: list[tuple[int, int]] = []

    def run() -> None:
        thread = threading.get_native_id()
        for _ in range(2):
            found.append((os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)))
            wake_soon()

    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
    assert found[0] == found[1]


class Nothing:
    """A file that is read at once."""

    def read(self, start: int, end: int) -> None:
        pass

    keep = drop = read


class Work:
    """Jobs that come up, the threads that looked for one, and what has been done."""

    def __init__(self, readers: Readers) -> None:
        self.left: list[Job] = []
        self.looked: list[int] = []
        self.done: list[int] = []
        readers.sources.append(self._take)

    def _take(self) -> Job | None:
        self.looked.append(threading.get_ident())
        return self.left.pop(0) if self.left else None

    def finished(self, job: Job) -> None:
        self.done.append(job.key)


@pytest.fixture
def readers() -> Iterator[Readers]:
    readers = Readers([Nothing()])  # type: ignore[list-item]
    yield readers
    readers.close()


def wait_until_idle(readers: Readers) -> None:
    until = time.monotonic() + 30
    while True:
        with readers.changed:
            if len(readers._idle._waiters) == READERS:  # type: ignore[attr-defined]
                return
        assert time.monotonic() < until
        time.sleep(0.001)


def test_no_more_threads_wake_than_there_are_jobs(readers: Readers) -> None:
    work = Work(readers)
    readers.start()
    for key in range(20):
        wait_until_idle(readers)
        with readers.changed:
            work.looked.clear()
            work.left.append(Job(work, key, 0, 0, 1, False))
            readers.wake(1)
            assert readers.changed.wait_for(lambda key=key: key in work.done, timeout=30)
            assert len(set(work.looked)) == 1

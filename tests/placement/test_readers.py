from __future__ import annotations

import os
import sys
import threading

import pytest

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

"""The peak of this machine's RAM: known from before, or measured in a child process once there is time for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time

from pagewise.readings import Snapshot
from pagewise.verdict.roofline import keep_peak, known_peak
from pagewise.verdict.tiers import Peak

_IDLE_S = 4.0
_QUIET_PCT = 25.0
_LIMIT_S = 30.0
_MOST_TRIES = 3


class Peaks:
    """Answers at once with what is known, and measures what is not when it is ``idle``."""

    def __init__(self) -> None:
        self._threads: int | None = None
        self._known: dict[int, float | None] = {}
        self._idle_since: float | None = None
        self._tries = 0
        self._measuring: asyncio.Task[None] | None = None

    def ram(self, threads: int) -> Peak:
        """The peak at this thread count."""
        peak = self._lookup(threads)
        why = "" if peak else "it is measured when the machine has had nothing to do for some seconds"
        return Peak(peak, why)

    def want(self, threads: int) -> None:
        """The peak that will be needed."""
        if threads != self._threads:
            self._threads = threads
            self._tries = 0

    def surpassed(self, threads: int, bytes_per_s: float) -> None:
        """A turn has read this much: a peak below it was measured in a bad moment and is measured again."""
        peak = self._lookup(threads)
        if peak is not None and bytes_per_s > 1.1 * peak:
            self._known[threads] = None
            self._tries = 0

    def on_snapshot(self, snapshot: Snapshot, idle: bool) -> None:
        """Measure if there is something to measure, and the machine has time. ``idle``: neither turn nor load."""
        now = time.monotonic()
        quiet = idle and (self._measuring is not None or (snapshot.memory.cpu_pct or 0.0) < _QUIET_PCT)
        if not quiet:
            self._idle_since = None
            self.stop()
            return
        if self._idle_since is None:
            self._idle_since = now
        threads = self._threads
        due = threads is not None and self._measuring is None and now - self._idle_since >= _IDLE_S
        if due and threads is not None and self._lookup(threads) is None and self._tries < _MOST_TRIES:
            self._tries += 1
            self._measuring = asyncio.create_task(self._measure(threads))

    def stop(self) -> None:
        """Something else is to be done now: give the machine back at once."""
        if self._measuring is not None:
            self._measuring.cancel()
            self._measuring = None

    def _lookup(self, threads: int) -> float | None:
        if threads not in self._known:
            self._known[threads] = known_peak(threads)
        return self._known[threads]

    async def _measure(self, threads: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pagewise.verdict.roofline",
            str(threads),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _LIMIT_S)
            peak = float(output)
        except (asyncio.TimeoutError, ValueError):
            # No room for the buffer, or no answer: the peak stays unknown, and is said to be.
            return
        else:
            self._known[threads] = peak
            keep_peak(threads, peak)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self._measuring = None

"""What commands for jobs have in common: ask a host, show how far it is, take Ctrl-C, and give the answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pagewise.app.figures import count, rate, size
from pagewise.app.visible import visible_line
from pagewise.client import HostClient
from pagewise.commands.problem import report
from pagewise.jobs.base import JobAnswer, JobFailed, JobProgress
from pagewise.messages import Event, Failure, JobCommand, Notice, SetRate, Stop

INTERRUPTED = 130
DUMB = ("", "dumb", "unknown")
"""Values of TERM of terminals that can do no more than lines."""
FAILED = 1
A = TypeVar("A", bound=JobAnswer)
_ID = 1
_WIDTH = 78
_HOST_LOST = Failure(
    "There is no answer",
    "The host does not stay up.",
    "`pagewise doctor` shows what this machine lacks; the host's log is in the user's log folder.",
)


def ask_host(
    request: Callable[[int], JobCommand], kind: type[A], on_event: Callable[[Event], None] | None = None
) -> A | int:
    """The answer of this ``kind`` to ``request(id)``, or the exit status once its failure was written.

    Progress is shown on standard error where that is a terminal. The first Ctrl-C asks the job to stop, the second
    ends at once. ``on_event`` sees every event of the host but the answer.
    """
    answer = asyncio.run(_Asking(request(_ID), on_event or (lambda event: None)).run())
    assert isinstance(answer, (kind, int)), "a job ends with its own answer"
    return answer


class _Asking:
    def __init__(self, request: JobCommand, on_event: Callable[[Event], None]) -> None:
        self._request = request
        self._on_event = on_event
        self._client = HostClient()
        self._line = ProgressLine()
        self._interrupts = 0
        self._is_asked = False

    async def run(self) -> JobAnswer | int:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        loop.add_signal_handler(signal.SIGINT, self._interrupted, task)
        answer: JobAnswer | None = None
        try:
            await self._client.start()
            if self._interrupts:
                return INTERRUPTED
            self._client.send(SetRate(0.0))
            self._client.send(self._request)
            self._is_asked = True
            async for event in self._client.events():
                if isinstance(event, JobAnswer):
                    answer = event
                    break
                self._show(event)
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            self._line.clear()
            with contextlib.suppress(asyncio.CancelledError):
                await self._client.close()
            # Not before: an answer that has come is not lost to a Ctrl-C that comes after it.
            loop.remove_signal_handler(signal.SIGINT)
        if answer is None:
            answer = JobFailed(_ID, _HOST_LOST)
        if isinstance(answer, JobFailed):
            if answer.cancelled and self._interrupts:
                return INTERRUPTED
            report(answer.failure)
            return FAILED
        return answer

    def _show(self, event: Event) -> None:
        if isinstance(event, JobProgress):
            self._line.show(event)
        else:
            # What is written of it must not stand behind the progress.
            self._line.clear()
        if isinstance(event, Notice):
            report(event.failure)
        self._on_event(event)

    def _interrupted(self, task: asyncio.Task[Any]) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            task.cancel()
        elif self._is_asked:
            self._client.send(Stop(_ID))


class ProgressLine:
    """One line of standard error that is written over; nothing where that is no terminal, or one that cannot."""

    def __init__(self) -> None:
        self._shown = False
        self._phase = ""
        self._began = (0.0, 0)

    def show(self, progress: JobProgress) -> None:
        """Phase, share, and of bytes the rate since the phase began."""
        if not sys.stderr.isatty() or os.environ.get("TERM", "") in DUMB:
            return
        now = time.monotonic()
        if progress.phase != self._phase:
            self._phase, self._began = progress.phase, (now, progress.done)
        parts = [visible_line(progress.phase)]
        write = size if progress.unit == "bytes" else count
        if progress.total:
            parts.append(f"{100 * progress.done // progress.total} %")
            parts.append(f"{write(progress.done)} of {write(progress.total)}")
        elif progress.done:
            parts.append(write(progress.done))
        passed = now - self._began[0]
        if progress.unit == "bytes" and passed > 1:
            parts.append(rate((progress.done - self._began[1]) / passed))
        if progress.detail:
            parts.append(visible_line(progress.detail))
        self._shown = True
        print("\r\x1b[K" + " · ".join(parts)[:_WIDTH], end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

"""The monitor for an asyncio program: samples in a thread, handed over as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pagewise.messages import Event, Failure, Monitor, Monitored, Notice
from pagewise.models.gguf import GgufError
from pagewise.monitor.choice import Choice, ChoiceError
from pagewise.monitor.own_engine import Inside
from pagewise.monitor.watch import Watch

SHORTEST_S = 0.1


class MonitorFeed:
    """Does what the last Monitor command said; ``send`` gets a Monitored for each sample, a Notice if it cannot be."""

    def __init__(self, send: Callable[[Event], None], inside: Inside | None = None) -> None:
        """``inside``: of the engine of the host that this process is, if it is one."""
        self._send = send
        self._inside = inside
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="monitor")
        self._task: asyncio.Task[None] | None = None

    def handle(self, command: Monitor) -> None:
        """Sample like this from now on."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if command.interval_s > 0:
            self._task = asyncio.create_task(self._sample(command))

    def close(self) -> None:
        """Sample no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._thread.shutdown(wait=False)

    async def _sample(self, command: Monitor) -> None:
        loop = asyncio.get_running_loop()
        interval_s = max(SHORTEST_S, command.interval_s)
        watch: Watch | None = None
        due = loop.time()
        try:
            watch = await loop.run_in_executor(self._thread, self._watch, command)
            while True:
                self._send(Monitored(await loop.run_in_executor(self._thread, watch.sample)))
                due = max(due + interval_s, loop.time())
                await asyncio.sleep(due - loop.time())
        except (ChoiceError, GgufError, OSError) as error:
            self._send(Notice(_failure(error)))
        finally:
            if watch is not None:
                # Behind the sample that may be under way in the one thread.
                self._thread.submit(watch.close)

    def _watch(self, command: Monitor) -> Watch:
        choice = Choice(command.pid, Path(command.file) if command.file else None, command.url)
        return Watch(choice, inside=self._inside)


def _failure(error: ChoiceError | GgufError | OSError) -> Failure:
    if isinstance(error, ChoiceError):
        return error.failure
    if isinstance(error, GgufError):
        return Failure(error.what, error.why, error.next)
    return Failure(
        "The monitor cannot read this box",
        f"The system says: {error.strerror or error}.",
        "It needs Linux with /proc mounted; the chat's own gauges work without it.",
    )

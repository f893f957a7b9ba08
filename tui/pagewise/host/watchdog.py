"""Ends an engine that does not do what it must: a stop that is not honoured, a question without any answer, a hang."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from pagewise.host.supervise import Engine
from pagewise.instruments.counters import Counters

_LOOK_S = 1.0
_CPU_S = 0.05
_READ_BYTES = 1 << 16


class Limits(NamedTuple):
    """Seconds until the watchdog acts."""

    stop: float = 5.0
    """From a stop to the end of the turn."""
    answer: float = 60.0
    """From a question to the engine's first word on it: only template and tokenizer lie between."""
    hang: float = 120.0
    """Without a word, without using the processor, and without reading from disk."""


class Watched(NamedTuple):
    """An engine that owes something. Times on the monotonic clock; None: nothing of that kind."""

    engine: Engine
    last_word_at: float
    asked_at: float | None
    stop_asked_at: float | None


class Activity:
    """When a process last used the processor or read from disk."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen_at = time.monotonic()
        self._counters = Counters(pid)
        self._last = self._counters.read()

    def look(self) -> None:
        """Look now."""
        now = self._counters.read()
        ran = (now.cpu_s or 0.0) - (self._last.cpu_s or 0.0)
        read = (now.read_bytes or 0) - (self._last.read_bytes or 0)
        if ran >= _CPU_S or read >= _READ_BYTES:
            self._last = now
            self.seen_at = now.at_s

    def close(self) -> None:
        """Lets go of the counters."""
        self._counters.close()


def complaint(watched: Watched, active_at: float, now: float, limits: Limits) -> str | None:
    """Why this engine is to be ended, or None."""
    if watched.stop_asked_at is not None and now - watched.stop_asked_at > limits.stop:
        return f"It was asked to stop and had not done so after {limits.stop:g} seconds."
    if watched.asked_at is not None and now - watched.asked_at > limits.answer:
        return f"It had not begun to answer after {limits.answer:g} seconds."
    if now - max(watched.last_word_at, active_at) > limits.hang:
        return f"It did nothing for {limits.hang:g} seconds: no word, no computing, no reading from disk."
    return None


class Watchdog:
    """Looks once a second at what ``owed`` says the engine owes; None from it means nothing."""

    def __init__(self, owed: Callable[[], Watched | None], limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self._owed = owed
        self._limits = limits
        self._activity: Activity | None = None
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Watch no more."""
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            watched = self._owed()
            if watched is None or (self._activity and self._activity.pid != watched.engine.pid):
                if self._activity:
                    self._activity.close()
                self._activity = None
            if watched is None:
                continue
            if self._activity is None:
                self._activity = Activity(watched.engine.pid)
            self._activity.look()
            why = complaint(watched, self._activity.seen_at, time.monotonic(), self._limits)
            if why is not None:
                watched.engine.refuse(why)

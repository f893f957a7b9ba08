"""The monitor in the very process that shows it, behind the handle that the app knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pagewise.messages import Command, Event, Monitor
from pagewise.monitor.feed import MonitorFeed


class LocalMonitor:
    """Takes Monitor commands and gives the samples as events. Of other commands it knows nothing."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._feed: MonitorFeed | None = None

    async def start(self) -> None:
        """Begin."""
        self._feed = MonitorFeed(self._events.put_nowait)

    def send(self, command: Command) -> None:
        """Hand a command over."""
        if self._feed is not None and isinstance(command, Monitor):
            self._feed.handle(command)

    async def events(self) -> AsyncIterator[Event]:
        """Every sample, until ``close``."""
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        """End."""
        if self._feed is not None:
            self._feed.close()
        self._events.put_nowait(None)

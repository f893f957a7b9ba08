"""The monitor in the very process that shows it, behind the handle that the app knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pagewise.client import Record
from pagewise.messages import Command, Event, Monitor, Notice, ProfileStacks
from pagewise.monitor.feed import MonitorFeed
from pagewise.monitor.stack_recorder import StackRecorder


class LocalMonitor:
    """Takes Monitor and ProfileStacks commands and gives what comes of them as events. Others it does not know."""

    def __init__(self, record: Record | None = None) -> None:
        """``record`` is given every command and every event."""
        self._record = record
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._feed: MonitorFeed | None = None
        self._recorder: StackRecorder | None = None

    async def start(self) -> None:
        """Begin."""
        self._feed = MonitorFeed(self._deliver)
        self._recorder = StackRecorder(self._deliver)

    def send(self, command: Command) -> None:
        """Hand a command over."""
        self._keep_record(command)
        if self._feed is None or self._recorder is None:
            return
        if isinstance(command, Monitor):
            self._feed.handle(command)
        elif isinstance(command, ProfileStacks):
            self._recorder.record(command, None)

    async def events(self) -> AsyncIterator[Event]:
        """Every sample, until ``close``."""
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        """End."""
        if self._feed is not None:
            self._feed.close()
        if self._recorder is not None:
            await self._recorder.close()
        self._events.put_nowait(None)

    def _deliver(self, event: Event) -> None:
        self._keep_record(event)
        self._events.put_nowait(event)

    def _keep_record(self, message: Command | Event) -> None:
        failure = self._record(message) if self._record is not None else None
        if failure is not None:
            self._events.put_nowait(Notice(failure))

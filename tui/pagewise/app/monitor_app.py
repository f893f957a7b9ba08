"""The monitor as a program of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagewise import messages
from pagewise.app.profiler.asked import Profiler
from pagewise.app.screens.monitor import MonitorScreen
from pagewise.app.standalone import StandaloneApp
from pagewise.messages import Monitor

if TYPE_CHECKING:
    from textual.screen import Screen

    from pagewise.app.connection import Client


class MonitorApp(StandaloneApp):
    """Shows what ``client`` samples. ``run()`` returns when the person quits."""

    TITLE = "pagewise monitor"
    CSS_PATH = "screens/monitor.tcss"

    def __init__(self, client: Client, wanted: Monitor, theme: str | None = None) -> None:
        """``theme`` None: the remembered one."""
        super().__init__(client, theme)
        self._profiler = Profiler(client.send)
        self._monitor = self._new_screen(wanted)

    def _new_screen(self, wanted: Monitor) -> MonitorScreen:
        return MonitorScreen(self._client.send, wanted, profiler=self._profiler)

    def get_default_screen(self) -> Screen[Any]:
        """The monitor."""
        return self._monitor

    async def _listen(self) -> None:
        async for event in self._client.events():
            if isinstance(event, messages.Monitored):
                self._monitor.show(event.sample)
            elif isinstance(event, messages.Stacks):
                self._profiler.take(event)
            elif isinstance(event, messages.Notice):
                self._monitor.failed(event.failure)

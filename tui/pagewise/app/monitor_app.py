"""The monitor as a program of its own: the screen, a theme, and a clean end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from pagewise import messages
from pagewise.app.app import THEME_KEY, WithoutColour, _driver
from pagewise.app.profiler.asked import Profiler
from pagewise.app.screens.monitor import MonitorScreen
from pagewise.app.themes import TERMINAL, load_themes
from pagewise.app.widgets.painted import PaintedApp
from pagewise.messages import Monitor

if TYPE_CHECKING:
    from textual.screen import Screen

    from pagewise.app.connection import Client


class MonitorApp(PaintedApp):
    """Shows what ``client`` samples. ``run()`` returns when the person quits."""

    TITLE = "pagewise monitor"
    CSS_PATH = "screens/monitor.tcss"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, client: Client, wanted: Monitor, theme: str | None = None) -> None:
        """``theme`` None: the remembered one."""
        themes = load_themes()
        super().__init__(driver_class=_driver())
        self._client = client
        self._profiler = Profiler(client.send)
        self._monitor = self._new_screen(wanted)
        if self.no_color:
            self._filters = [WithoutColour()]
        for known in themes.themes.values():
            self.register_theme(known.textual())
        chosen = themes.get(theme or self._remembered())
        shown = themes.get(TERMINAL) if self.no_color else chosen
        self.palette = shown.palette(self.no_color)
        self.theme = f"pagewise-{shown.name}"

    def _new_screen(self, wanted: Monitor) -> MonitorScreen:
        return MonitorScreen(self._client.send, wanted, profiler=self._profiler)

    def get_default_screen(self) -> Screen[Any]:
        """The monitor."""
        return self._monitor

    async def on_load(self) -> None:
        """The client is there before the screen asks it for samples."""
        await self._client.start()

    def on_mount(self) -> None:
        """Listen until the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit)
        self.run_worker(self._listen(), group="client", exit_on_error=True)

    async def on_unmount(self) -> None:
        """However it ends."""
        await self._client.close()

    async def _listen(self) -> None:
        async for event in self._client.events():
            if isinstance(event, messages.Monitored):
                self._monitor.show(event.sample)
            elif isinstance(event, messages.Stacks):
                self._profiler.take(event)
            elif isinstance(event, messages.Notice):
                self._monitor.failed(event.failure)

    def _remembered(self) -> str | None:
        from pagewise.profiles.state import recall

        asked = recall(THEME_KEY)
        return TERMINAL if asked is None and self.console.color_system in (None, "standard") else asked

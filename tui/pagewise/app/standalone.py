"""The base of a screen that is a program of its own: a client, a theme, and a clean end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from pagewise.app.app import THEME_KEY, WithoutColour, _driver
from pagewise.app.themes import TERMINAL, load_themes
from pagewise.app.widgets.painted import PaintedApp

if TYPE_CHECKING:
    from pagewise.app.connection import Client


class StandaloneApp(PaintedApp):
    """Starts ``client`` before its screen is there, and closes it however it ends."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, client: Client, theme: str | None = None) -> None:
        """``theme`` None: the remembered one."""
        themes = load_themes()
        super().__init__(driver_class=_driver())
        self._client = client
        if self.no_color:
            self._filters = [WithoutColour()]
        for known in themes.themes.values():
            self.register_theme(known.textual())
        chosen = themes.get(theme or self._remembered())
        shown = themes.get(TERMINAL) if self.no_color else chosen
        self.palette = shown.palette(self.no_color)
        self.theme = f"pagewise-{shown.name}"

    async def on_load(self) -> None:
        """The client is there before the screen asks it for anything."""
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
        raise NotImplementedError

    def _remembered(self) -> str | None:
        from pagewise.profiles.state import recall

        asked = recall(THEME_KEY)
        return TERMINAL if asked is None and self.console.color_system in (None, "standard") else asked

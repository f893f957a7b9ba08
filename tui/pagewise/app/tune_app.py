"""The tuner as a program of its own: the screen, a theme, and a clean end."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from pagewise import messages
from pagewise.app.app import THEME_KEY, WithoutColour, _driver
from pagewise.app.jobs import AskedJobs
from pagewise.app.screens.tune import TuneScreen
from pagewise.app.themes import TERMINAL, load_themes
from pagewise.app.tuning.asked import saver
from pagewise.app.widgets.painted import PaintedApp
from pagewise.jobs.tune import Tune, Tuned

if TYPE_CHECKING:
    from pagewise.app.connection import Client


class TuneApp(PaintedApp):
    """Runs one tune. ``run()`` returns when the person closes it; ``found`` is then what there was to find."""

    TITLE = "pagewise tune"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, client: Client, make: Callable[[int], Tune], model: str, theme: str | None = None) -> None:
        """``theme`` None: the remembered one."""
        themes = load_themes()
        super().__init__(driver_class=_driver())
        self._client = client
        ids = itertools.count(1)
        self._jobs = AskedJobs(client.send, lambda: next(ids))
        self._screen = TuneScreen(self._jobs, client.send, make, saver(self), model=model, may_use=False)
        if self.no_color:
            self._filters = [WithoutColour()]
        for known in themes.themes.values():
            self.register_theme(known.textual())
        chosen = themes.get(theme or self._remembered())
        shown = themes.get(TERMINAL) if self.no_color else chosen
        self.palette = shown.palette(self.no_color)
        self.theme = f"pagewise-{shown.name}"

    @property
    def found(self) -> Tuned | None:
        """The result, if it came to one."""
        return self._screen.tuning.result if self._screen.tuning is not None else None

    def get_default_screen(self) -> Screen[Any]:
        """Nothing: the sheet lies over it."""
        return Screen()

    async def on_load(self) -> None:
        """The client is there before the screen asks for anything."""
        await self._client.start()
        self._client.send(messages.SetRate(0.0))

    def on_mount(self) -> None:
        """Open the sheet, and end with it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit)
        self.run_worker(self._listen(), group="client", exit_on_error=True)
        self.push_screen(self._screen, lambda _: self.exit())

    async def on_unmount(self) -> None:
        """However it ends."""
        await self._client.close()

    async def _listen(self) -> None:
        async for event in self._client.events():
            self._jobs.take(event)

    def _remembered(self) -> str | None:
        from pagewise.profiles.state import recall

        asked = recall(THEME_KEY)
        return TERMINAL if asked is None and self.console.color_system in (None, "standard") else asked

"""The tuner as a program of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from pagewise import messages
from pagewise.app.jobs import AskedJobs
from pagewise.app.screens.tune import TuneScreen
from pagewise.app.standalone import StandaloneApp
from pagewise.app.tuning.asked import saver
from pagewise.app.tuning.state import Tuning
from pagewise.jobs.tune import Tune, Tuned

if TYPE_CHECKING:
    from pagewise.app.connection import Client


class TuneApp(StandaloneApp):
    """Runs one tune. ``run()`` returns when the person closes it; ``found`` is then what there was to find."""

    TITLE = "pagewise tune"

    def __init__(self, client: Client, make: Callable[[int], Tune], model: str, theme: str | None = None) -> None:
        """``make`` builds the tune of an id; ``theme`` None: the remembered one."""
        super().__init__(client, theme)
        ids = itertools.count(1)
        self._jobs = AskedJobs(client.send, lambda: next(ids))
        self._screen = TuneScreen(self._jobs, self._jobs.tell, make, saver(self), model=model, may_use=False)

    @property
    def tuning(self) -> Tuning | None:
        """How far it has come."""
        return self._screen.tuning

    @property
    def found(self) -> Tuned | None:
        """The result, if it came to one."""
        return self.tuning.result if self.tuning is not None else None

    def get_default_screen(self) -> Screen[Any]:
        """Nothing: the sheet lies over it."""
        return Screen()

    def on_mount(self) -> None:
        """Open the sheet, and end with it. The base's own handler is called besides."""
        self._client.send(messages.SetRate(0.0))
        self.push_screen(self._screen, lambda _: self.exit())

    async def _listen(self) -> None:
        async for event in self._client.events():
            self._jobs.take(event)

"""F6: the tuner at work. Its trials as they come, what they come to, and what to do with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.widget import Widget

from pagewise.app.jobs import AskedJobs
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, clip, wrap
from pagewise.app.tuning.drawing import (
    draw_head,
    draw_plot,
    draw_result,
    draw_state,
    draw_trial,
    draw_trial_detail,
)
from pagewise.app.tuning.found import found_profile
from pagewise.app.tuning.state import Tuning
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.app.widgets.painted import Painted
from pagewise.jobs.tune import Tune
from pagewise.messages import Command
from pagewise.settings import Profile

_PLOT_ROWS = 9
_ROOM_FOR_PLOT = 34


class State(Painted):
    """The lines above the table."""

    def __init__(self, draw: Callable[[int], list[Line]], id: str) -> None:
        super().__init__(id=id)
        self._draw = draw

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines."""
        return self._draw(width)


class TuneScreen(Sheet[Profile]):
    """Asks for the tune when it opens. Its result is the profile that is to be used, or None.

    ``save`` opens what saves a profile; ``may_use``: whether there is a conversation that could go on with it.
    """

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "tune.tcss"]
    KEYS: ClassVar[list[Key]] = [("↑↓", "trials"), ("B", "take the best now"), ("F", "fix a key"), ("Esc", "stop")]

    def __init__(
        self,
        jobs: AskedJobs,
        send: Callable[[Command], object],
        make: Callable[[int], Tune],
        save: Callable[[Profile, Callable[[Path | None], None]], None],
        *,
        model: str,
        may_use: bool,
    ) -> None:
        super().__init__("Tune", model)
        self._jobs, self._send, self._make, self._save, self._may_use = jobs, send, make, save, may_use
        self.tuning: Tuning | None = None
        self._saved = ""

    def body(self) -> list[Widget]:
        """State, table, what the chosen trial was, plot."""
        return [
            State(self._state, "state"),
            State(lambda width: [clip((("  ", "text"), *draw_head(width - 2)), width)], "trials-head"),
            Listing("measuring where you are…", id="trials"),
            Page(self._about, id="about"),
            State(self._plot, "plot"),
        ]

    def on_mount(self) -> None:
        """Begin."""
        super().on_mount()
        self.query_one("#about").can_focus = False
        self.query_one(Listing).focus()

        def make(id: int) -> Tune:
            wanted = self._make(id)
            self.tuning = Tuning(wanted, self._send, self._changed)
            return wanted

        self._job = self._jobs.ask(
            make,
            lambda event: self._tuning.answered(event),
            lambda event: self._tuning.news(event),
            lambda event: self._tuning.news(event),
        )
        self.set_interval(1.0, self.repaint)

    @property
    def _tuning(self) -> Tuning:
        assert self.tuning is not None
        return self.tuning

    def fit(self, room: int) -> None:
        """The plot where there is room for it."""
        self.query_one("#plot").styles.display = "block" if room >= _ROOM_FOR_PLOT else "none"
        self.query_one("#plot").styles.height = _PLOT_ROWS
        self.query_one("#about").styles.max_height = max(3, room // 3)
        self.query_one("#trials").styles.height = "1fr"

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def _changed(self) -> None:
        if self.is_mounted:
            self._rows()
            self.query_one(Keys).show(self._keys())
            self.query_one("#about", Page).repaint()
            self.repaint()

    def _rows(self) -> None:
        listing = self.query_one(Listing)
        tuning = self._tuning
        best = tuning.best_trial
        follow = listing.chosen >= len(tuning.trials) - 2
        width = max(listing.content_size.width - 2, 1)
        listing.show([draw_trial(trial, best.number if best else 0, width) for trial in tuning.trials])
        if follow and tuning.trials:
            listing.chosen = len(tuning.trials) - 1
        listing.styles.height = "1fr"
        listing.repaint()

    def _keys(self) -> list[Key]:
        if not self._tuning.over:
            return self.KEYS
        found = self._tuning.result is not None and self._tuning.result.best.number > 0
        use: list[Key] = [("⏎", "use it now")] if found and self._may_use else []
        return [*use, *([("S", "save as profile")] if found else []), ("↑↓", "trials"), ("Esc", "close")]

    def _state(self, width: int) -> list[Line]:
        return [*draw_state(self._tuning, width), BLANK] if self.tuning is not None else []

    def _about(self, width: int) -> list[Line]:
        if self.tuning is None:
            return []
        lines: list[Line] = []
        listing = self.query_one(Listing)
        if self._saved:
            lines += wrap((("✓ ", "accent"), (self._saved, "text")), width, rest=2)
        lines += draw_result(self.tuning, width)
        if listing.chosen < len(self.tuning.trials) and not self.tuning.over:
            lines += draw_trial_detail(self.tuning.trials[listing.chosen], width)
        elif listing.chosen < len(self.tuning.trials):
            lines += [BLANK, *draw_trial_detail(self.tuning.trials[listing.chosen], width)]
        if self.tuning.fixed and not self.tuning.over:
            lines += wrap((("fixed  ", "muted"), (", ".join(self.tuning.fixed), "text")), width, rest=7)
        return lines

    def _plot(self, width: int) -> list[Line]:
        if self.tuning is None:
            return []
        best = self.tuning.best_trial
        return draw_plot(self.tuning.trials, best.number if best else 0, width, _PLOT_ROWS)

    @on(Listing.Moved)
    def _moved(self) -> None:
        self.query_one("#about", Page).repaint()

    @on(Listing.Taken)
    def _taken(self) -> None:
        result = self._tuning.result
        if result is not None and result.best.number and self._may_use:
            self.dismiss(found_profile(self._tuning.wanted.profile, result.best.profile))

    def on_key(self, event: events.Key) -> None:
        """Take the best, fix a key, save."""
        tuning = self._tuning
        if event.key == "b":
            tuning.take_best()
        elif event.key == "f" and tuning.trials and not tuning.over:
            chosen = tuning.trials[min(self.query_one(Listing).chosen, len(tuning.trials) - 1)]
            for change in chosen.changes:
                tuning.fix(change.partition(":")[0])
        elif event.key == "s" and tuning.result is not None and tuning.result.best.number:
            self._save(found_profile(tuning.wanted.profile, tuning.result.best.profile), self._was_saved)
        else:
            return
        event.stop()

    def _was_saved(self, path: Path | None) -> None:
        if path is not None:
            self._saved = f"saved: {path}"
            self._changed()

    def action_close(self) -> None:
        """The first Esc stops a tune that goes on; the best so far is then offered."""
        if self.tuning is None or self.tuning.over:
            self.dismiss(None)
        elif not self.tuning.ending and len(self.tuning.trials) > 1:
            self.tuning.take_best()
        else:
            self._jobs.stop(self._job)

"""F6: the tuner at work. Its trials as they come, what they come to, and what to do with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from pagewise.app.jobs import AskedJobs
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, clip, wrap
from pagewise.app.tuning.drawing import (
    draw_begun,
    draw_begun_detail,
    draw_head,
    draw_result,
    draw_resumed,
    draw_state,
    draw_trial,
    draw_trial_detail,
)
from pagewise.app.tuning.found import found_profile
from pagewise.app.tuning.plot import NOTHING, draw_plot
from pagewise.app.tuning.state import Tuning
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.app.widgets.painted import Painted
from pagewise.jobs.tune import Trial, Tune
from pagewise.messages import Command
from pagewise.settings import Profile

_PLOT_ROWS, _TALL_PLOT_ROWS = 9, 14
_ROOM_FOR_PLOT, _ROOM_FOR_TALL_PLOT = 32, 42
_ABOUT_ROWS, _LEAST_TRIALS = 3, 5
_AROUND = 7
"""Rows of the state, the names of the columns, and what is between."""


class State(Painted):
    """Lines that are drawn for a width and a height."""

    def __init__(self, draw: Callable[[int, int], list[Line]], id: str) -> None:
        super().__init__(id=id)
        self._draw = draw

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines."""
        return self._draw(width, height)


class TuneScreen(Sheet[Profile]):
    """Asks for the tune when it opens. Its result is the profile that is to be used, or None.

    ``save`` opens what saves a profile; ``may_use``: whether there is a conversation that could go on with it.
    """

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "tune.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "close", "Stop", show=False, priority=True)]
    KEYS: ClassVar[list[Key]] = [("Esc", "stop")]

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
        self.saved = ""
        """The name of the profile that it was saved as."""
        self._saved_at = ""
        self._plot_alone = False
        self._room = 0

    def body(self) -> list[Widget]:
        """State, table, what the chosen trial was, plot."""
        return [
            State(self._state, "state"),
            State(lambda width, _: [clip((("  ", "text"), *draw_head(width - 2)), width)], "trials-head"),
            Listing("", id="trials"),
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

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def fit(self, room: int) -> None:
        """The plot beside the table where there is room for both, else one of them."""
        self._room = room
        self._lay_out()

    def _lay_out(self) -> None:
        both = self._room >= _ROOM_FOR_PLOT and bool(self._points(80, _PLOT_ROWS))
        alone = self._plot_alone and self._room < _ROOM_FOR_PLOT
        rows = _TALL_PLOT_ROWS if self._room >= _ROOM_FOR_TALL_PLOT else _PLOT_ROWS
        plot, about = self.query_one("#plot"), self.query_one("#about")
        plot.styles.display = "block" if both or alone else "none"
        plot.styles.height = "1fr" if alone else rows
        for name in ("#trials", "#trials-head", "#about"):
            self.query_one(name).styles.display = "none" if alone else "block"
        # All of the evidence is seen before all of the table: that one scrolls with its choice.
        left = self._room - _AROUND - (rows + 1 if both else 0)
        least = min(self.query_one(Listing).count, _LEAST_TRIALS)
        about.styles.min_height = min(_ABOUT_ROWS, max(left - least, 1))
        about.styles.max_height = max(left - least, 1)
        self.query_one(Listing).styles.height = "1fr"

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def _changed(self) -> None:
        if self.is_mounted:
            self._rows()
            self._lay_out()
            self.query_one(Keys).show(self._keys())
            self.query_one("#about", Page).repaint()
            self.repaint()

    def _rows(self) -> None:
        if self.tuning is None:
            return
        listing, tuning = self.query_one(Listing), self.tuning
        best = tuning.best_trial
        follow = listing.chosen >= listing.count - 1
        width = max(listing.content_size.width - 2, 1)
        rows = [draw_trial(trial, best.number if best else 0, width) for trial in tuning.trials]
        if tuning.now is not None:
            rows.append(draw_begun(tuning.now, tuning.phase, width))
        listing.show(rows)
        if follow and rows:
            listing.chosen = best.number if tuning.over and best is not None else len(rows) - 1
        listing.styles.height = "1fr"
        listing.repaint()

    def _keys(self) -> list[Key]:
        tuning = self._tuning
        plot: list[Key] = []
        if self._room < _ROOM_FOR_PLOT:
            plot = [("P", "trials" if self._plot_alone else "plot")]
        if tuning.over:
            found = tuning.offered is not None
            use: list[Key] = [("⏎", "use it now")] if found and self._may_use else []
            return [*use, *([("S", "save as profile")] if found else []), ("Esc", "close"), *plot]
        if tuning.ending or tuning.last is not None:
            return [("Esc", "stop without it"), *plot]
        best: list[Key] = [("B", "take the best so far")] if tuning.best else []
        fix: list[Key] = [("F", "fix what this row changes")] if tuning.now or len(tuning.trials) > 1 else []
        return [("Esc", "stop"), *best, *fix, *plot]

    def _state(self, width: int, _: int) -> list[Line]:
        return draw_state(self.tuning, width) if self.tuning is not None else []

    def _about(self, width: int) -> list[Line]:
        if self.tuning is None:
            return []
        tuning, lines = self.tuning, list[Line]()
        if self._saved_at:
            lines += wrap((("✓ ", "accent"), (self._saved_at, "text")), width, rest=2)
        lines += draw_result(tuning, width)
        if tuning.over:
            return [*lines, *([BLANK] if lines and tuning.trials else []), *self._chosen(width)]
        lines += self._chosen(width)
        if tuning.fixed:
            lines += wrap((("fixed ", "muted"), (", ".join(tuning.fixed), "text")), width, rest=6)
        return [*lines, *draw_resumed(tuning, width)]

    def _chosen(self, width: int) -> list[Line]:
        tuning, chosen = self._tuning, self.query_one(Listing).chosen
        if chosen < len(tuning.trials):
            return draw_trial_detail(tuning.trials[chosen], width)
        return draw_begun_detail(tuning, width)

    def _plot(self, width: int, height: int) -> list[Line]:
        return self._points(width, height) or [clip(((NOTHING, "muted"),), width)]

    def _points(self, width: int, height: int) -> list[Line]:
        if self.tuning is None:
            return []
        best = self.tuning.best_trial
        return draw_plot(self.tuning.trials, best.number if best else 0, width, height)

    @on(Listing.Moved)
    def _moved(self) -> None:
        self.query_one("#about", Page).repaint()

    # ---- what the person does ---------------------------------------------------------------------------------------

    @on(Listing.Taken)
    def _taken(self) -> None:
        offered = self._tuning.offered
        if offered is not None and self._may_use:
            self.dismiss(found_profile(self._tuning.wanted.profile, offered.profile))

    def on_key(self, event: events.Key) -> None:
        """Take the best, fix what a trial changes, save, plot."""
        act = {"b": self._take_best, "f": self._fix, "s": self._ask_to_save, "p": self._toggle_plot}.get(event.key)
        if act is not None:
            event.stop()
            act()

    def _take_best(self) -> None:
        tuning = self._tuning
        if tuning.over or tuning.ending:
            return
        if tuning.best:
            tuning.take_best()
        else:
            self._flash("Nothing better has been found yet: Esc stops, and all stays as it is.")

    def _fix(self) -> None:
        tuning = self._tuning
        if tuning.over or not tuning.trials:
            return
        chosen = self.query_one(Listing).chosen
        row: Trial | None = tuning.trials[chosen] if chosen < len(tuning.trials) else None
        changes = row.changes if row is not None else tuning.now.changes if tuning.now is not None else ()
        keys = [change.partition(":")[0] for change in changes]
        for key in keys:
            tuning.fix(key)
        if keys:
            self._flash(f"{', '.join(keys)}: not changed any more")
        else:
            self._flash("Choose a trial with ↑ ↓: what it changes can be fixed.")

    def _ask_to_save(self) -> None:
        offered = self._tuning.offered
        if offered is not None:
            self._save(found_profile(self._tuning.wanted.profile, offered.profile), self._was_saved)

    def _toggle_plot(self) -> None:
        if self._room < _ROOM_FOR_PLOT:
            self._plot_alone = not self._plot_alone
            self._changed()
            self.call_after_refresh(self._rows)

    def _flash(self, text: str) -> None:
        self.query_one(Keys).flash(text)

    def _was_saved(self, path: Path | None) -> None:
        if path is not None:
            self.saved = path.stem
            self._saved_at = f"saved as {path.stem}: F2 lists it" if self._may_use else f"saved: {path}"
            self._changed()

    def action_close(self) -> None:
        """Stop it; what it has found is then offered. Where there is nothing to offer, or at the second time, close."""
        tuning = self.tuning
        if tuning is None or tuning.over or tuning.stop_asked:
            self.dismiss(None)
            return
        tuning.stop_asked = True
        self._jobs.stop(self._job)
        if not tuning.best:
            self.dismiss(None)

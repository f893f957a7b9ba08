"""The monitor: a strip with one line a model, and the one in focus with its gauges."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget

from pagewise.app.figures import count
from pagewise.app.monitor.focus import draw_gauges, draw_history, draw_reasons, heading
from pagewise.app.monitor.strip import draw_model
from pagewise.app.monitor.watched import Box, Watched, key_of
from pagewise.app.profiler.asked import Profiler
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, clip, ends, line, wrap
from pagewise.app.visible import visible_line
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.app.widgets.painted import Painted
from pagewise.messages import Failure, Monitor
from pagewise.readings import MonitorSample

_KEYS: list[Key] = [
    ("↑↓", "choose"),
    ("?", "details, and why n/a"),
    ("F8", "flame graph"),
    ("Esc", "close"),
    ("^Q", "quit"),
]
_EMPTY = "No process of this box holds a GGUF model. Start one; it appears here within five seconds."
_WAITING = "Looking through the processes of this box …"


class ReasonsScreen(Sheet[None]):
    """Everything about one model, in sentences."""

    CSS_PATH = ["sheet.tcss", "page.tcss"]
    KEYS = [("Esc", "back"), ("↑↓", "scroll")]
    BINDINGS = [("question_mark,enter", "close", "Close")]

    def __init__(self, watched: Watched) -> None:
        super().__init__(heading(watched) or "This model")
        self._watched = watched

    def body(self) -> list[Widget]:
        """The sentences."""
        return [Page(lambda width: draw_reasons(self._watched, width), id="page")]


class MonitorHeading(Painted):
    """First line: how many models, which box."""

    def __init__(self, box: Box, interval_s: float) -> None:
        super().__init__(id="monitor-heading")
        self._box = box
        self._interval_s = interval_s

    def paint(self, width: int, height: int) -> list[Line]:
        """The line."""
        sample = self._box.sample
        left = line(("pagewise monitor", "strong accent"))
        if sample is None:
            return [clip(left, width)]
        n = sum(model.state != "ended" for model in sample.models)
        left += line((f"   {count(n)} model{'' if n == 1 else 's'}", "text"))
        where = line((visible_line(sample.hostname), "text"), (f"  {visible_line(sample.system)}", "muted"))
        beat = line((f"   every {self._interval_s:g} s", "muted"))
        return [ends(left, (*where, *(beat if width >= 100 else ())), width)]


class Focus(Painted):
    """The gauges of the model in focus."""

    def __init__(self, id: str, draw: Callable[[int, int], list[Line]]) -> None:
        super().__init__(id=id)
        self._draw = draw

    def paint(self, width: int, height: int) -> list[Line]:
        """The gauges."""
        return self._draw(width, height)


class MonitorScreen(Screen[None]):
    """Shows samples as they come. ``ask`` hands a Monitor command to whoever takes samples; ``show`` gets each one.

    On being opened it asks for samples every ``interval_s``, on being closed for none. Its owner passes every
    Monitored event on to ``show``, and a failure to take samples to ``failed``.
    """

    CSS_PATH = "monitor.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f5", "leave", "Close", show=False),
        Binding("question_mark,enter", "reasons", "Details", show=False),
        Binding("f8", "flame", "Flame graph", show=False),
        Binding("ctrl+q", "app.quit", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        ask: Callable[[Monitor], object],
        wanted: Monitor,
        focus_pid: int | None = None,
        profiler: Profiler | None = None,
    ) -> None:
        """``wanted``: what is asked for. ``focus_pid``: the process to begin with, such as our own engine.

        ``profiler`` None: no stacks can be recorded.
        """
        super().__init__()
        self.box = Box()
        self._profiler = profiler
        self._ask = ask
        self._wanted = wanted
        self._focus_pid = focus_pid
        self._failure: Failure | None = None

    def compose(self) -> ComposeResult:
        """Heading, strip, the model in focus, keys."""
        yield MonitorHeading(self.box, self._wanted.interval_s)
        yield Listing(_WAITING, id="monitor-strip")
        with Horizontal(id="monitor-focus"):
            yield Focus("monitor-gauges", self._gauges)
            yield Focus("monitor-history", self._history)
        yield Keys(_KEYS)

    def on_mount(self) -> None:
        """Samples are wanted from now on."""
        self.query_one(Listing).focus()
        self._ask(self._wanted)

    def on_unmount(self) -> None:
        """No more."""
        self._ask(Monitor(0.0))

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        self.call_after_refresh(self._draw)

    @property
    def focused_model(self) -> Watched | None:
        """The model whose gauges are shown."""
        chosen = self.query_one(Listing).chosen
        return self.box.watched[chosen] if chosen < len(self.box.watched) else None

    def show(self, sample: MonitorSample) -> None:
        """One more sample. The model in focus stays in focus wherever it stands now."""
        before = self.focused_model if self.is_mounted else None
        self.box.take(sample)
        self._failure = None
        if not self.is_mounted:
            return
        listing = self.query_one(Listing)
        keys = [key_of(watched.model) for watched in self.box.watched if watched.model]
        pids = [key[0] for key in keys]
        if before is not None and before.model is not None and key_of(before.model) in keys:
            listing.chosen = keys.index(key_of(before.model))
        elif self._focus_pid is not None and self._focus_pid in pids:
            listing.chosen = pids.index(self._focus_pid)
        self._draw()

    def failed(self, failure: Failure) -> None:
        """No samples can be taken."""
        self._failure = failure
        if self.is_mounted:
            self._draw()

    def _draw(self) -> None:
        listing = self.query_one(Listing)
        width = max(listing.content_size.width - 2, 1)
        devices = self.box.sample is not None and bool(self.box.sample.devices.devices)
        listing.show([draw_model(watched.model, width, devices) for watched in self.box.watched if watched.model])
        for painted in self.query(Painted):
            painted.repaint()

    def _gauges(self, width: int, height: int) -> list[Line]:
        if self._failure is not None:
            words = f"{self._failure.what}. {self._failure.why} {self._failure.next}"
            return wrap((("▲ ", "warn"), (visible_line(words), "text")), width, rest=2)
        watched = self.focused_model
        if watched is None:
            sample = self.box.sample
            if sample is None:
                return []
            lines = wrap(((_EMPTY, "muted"),), width)
            for entry in sample.missing:
                lines += [BLANK, *wrap(((visible_line(entry.why), "muted"),), width)]
            return lines
        return draw_gauges(watched, width, height)

    def _history(self, width: int, height: int) -> list[Line]:
        watched = self.focused_model
        return draw_history(watched, width, height) if watched is not None else []

    @on(Listing.Moved)
    def _moved(self) -> None:
        for focus in self.query(Focus):
            focus.repaint()

    @on(Listing.Taken)
    def _taken(self) -> None:
        self.action_reasons()

    def action_flame(self) -> None:
        """Record the stacks of the process in focus."""
        from pagewise.app.screens.flame import FlameScreen

        watched = self.focused_model
        if self._profiler is not None and watched is not None and watched.model is not None and watched.model.pid:
            model = watched.model
            self.app.push_screen(FlameScreen(self._profiler, lambda: True, model.pid, f"{model.program} {model.pid}"))

    def action_reasons(self) -> None:
        """Everything about the model in focus."""
        watched = self.focused_model
        if watched is not None:
            self.app.push_screen(ReasonsScreen(watched))

    def action_leave(self) -> None:
        """Back to where one came from; out of the program if this is all there is."""
        if len(self.app.screen_stack) > 1:
            self.dismiss(None)
        else:
            self.app.exit()

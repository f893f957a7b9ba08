"""F8: the flame graph of the engine, or of another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.figures import count, percent, share
from pagewise.app.profiler.asked import Profiler
from pagewise.app.profiler.drawing import describe, summary, told
from pagewise.app.profiler.flame import Stack, parse_folded, samples_of, tree
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, clip, line, wrap
from pagewise.app.visible import visible_line
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.flame import FlameGraph
from pagewise.app.widgets.keys import Key
from pagewise.app.widgets.painted import Painted
from pagewise.readings import StackProfile

_BEAT_S = 0.25
_LOW = 20


class Note(Painted):
    """Lines from a function of the width."""

    def __init__(self, draw: Callable[[int], list[Line]]) -> None:
        super().__init__(id="flame-note")
        self._draw = draw

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines."""
        return self._draw(width)


class FlameScreen(Sheet[None]):
    """Shows the last recording, and the one under way. ``works``: whether the engine is at something now."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "flame.tcss"]
    KEYS: ClassVar[list[Key]] = [
        ("↑↓←→", "choose"),
        ("⏎", "zoom"),
        ("⌫", "out"),
        ("/", "search"),
        ("r", "record"),
        ("s", "save"),
        ("Esc", "back"),
        ("+ -", "seconds"),
        ("i", "sleep"),
    ]
    BINDINGS = [
        ("f8", "close", "Close"),
        ("r", "record", "Record"),
        ("s", "save", "Save"),
        ("i", "sleepers", "Sleeping threads"),
        ("n", "next_found", "Next"),
        ("plus,equals_sign", "seconds(1)", "Longer"),
        ("minus", "seconds(-1)", "Shorter"),
        ("slash", "search", "Search"),
    ]

    def __init__(
        self, profiler: Profiler, works: Callable[[], bool], pid: int | None = None, name: str = "the engine"
    ) -> None:
        """``pid`` None: the engine."""
        super().__init__(f"Flame graph of {visible_line(name)}")
        self.profiler = profiler
        self._works = works
        self._pid = pid
        self._name_of_it = visible_line(name)
        self._shown: StackProfile | None = None
        self._stacks: list[Stack] = []
        self._hide_sleep = True
        self._saved = ""

    def body(self) -> list[Widget]:
        """Graph, search, note."""
        return [FlameGraph(self._empty), Field("part of a function's or library's name"), Note(self._note)]

    def on_mount(self) -> None:
        """Record at once where there is work; else with the next reply."""
        super().on_mount()
        self.query_one(FlameGraph).focus()
        if self._pid is not None:
            self.profiler.record(self._pid)
        elif self.profiler.stacks is None:
            self._record_when_it_works()
        self.set_interval(_BEAT_S, self.repaint)
        self._take()

    def on_resize(self, event: events.Resize) -> None:
        """Every line counts on a low terminal."""
        super().on_resize(event)
        self.set_class(event.size.height < _LOW, "-low")

    def repaint(self) -> None:
        """Take what has come, and draw what has changed."""
        if self.is_mounted:
            self._take()
            super().repaint()

    @property
    def profile(self) -> StackProfile | None:
        """The recording of this process."""
        stacks = self.profiler.stacks
        return stacks if stacks is None or self._pid is None or stacks.pid == self._pid else None

    def _record_when_it_works(self) -> None:
        if self._works():
            self.profiler.record(self._pid)
        else:
            self.profiler.arm()

    def _take(self) -> None:
        if self.profile is not self._shown:
            self._shown = self.profile
            self._stacks = parse_folded(self._shown.folded) if self._shown else []
            self._saved = ""
            self._grow()

    def _grow(self) -> None:
        """The tree anew, with or without the threads that sleep."""
        awake = [stack for stack in self._stacks if not (self._hide_sleep and stack.sleeps)]
        self.query_one(FlameGraph).show(tree(awake))

    # ---- words ------------------------------------------------------------------------------------------------------

    def _state(self) -> Line:
        profiler = self.profiler
        if profiler.recording is not None:
            left = profiler.seconds - (time.monotonic() - profiler.recording)
            words = f"{left:.0f} s left" if left > 0.5 else "reading the stacks"
            return line(("● ", "warn"), (f"Recording {self._name_of_it}: {words}", "text"))
        if profiler.armed:
            return line(
                ("● ", "muted"),
                (f"{profiler.seconds:g} s are recorded as soon as a reply begins: Esc, and ask. ", "text"),
                ("r records now", "muted"),
            )
        return line((f"r records {profiler.seconds:g} s", "muted"))

    def _empty(self, width: int) -> list[Line]:
        if self._shown is not None:
            return wrap((("Every thread slept all the time. Ask something, then record again (r).", "text"),), width)
        if self.profiler.stacks_failure is not None and self.profiler.recording is None:
            return wrap(told(self.profiler.stacks_failure), width)
        return [*wrap(self._state(), width), BLANK, *wrap(((_WHAT, "muted"),), width)]

    def _note(self, width: int) -> list[Line]:
        graph, profile = self.query_one(FlameGraph), self._shown
        if profile is None:
            return []
        lines: list[Line] = [BLANK, BLANK]
        if graph.chosen is not None and graph.root is not None:
            lines = describe(graph.chosen, graph.root.samples, profile.rate_hz, width)
        lines.append(clip(self._third(graph), width))
        failure = self.profiler.stacks_failure
        if failure is not None:
            return lines + wrap(told(failure), width)[:2]
        return lines + wrap(summary(profile, self._stacks, self._hide_sleep), width)[:2]

    def _third(self, graph: FlameGraph) -> Line:
        words = self.query_one(Field).value.strip()
        if self._saved:
            return line((self._saved, "text"))
        if words and graph.root is not None:
            part = percent(share(samples_of(graph.found), graph.root.samples))
            n = len(graph.found)
            frames = "1 frame holds" if n == 1 else f"{count(n)} frames hold"
            found = f"{frames} “{visible_line(words)}”, {part} of all"
            return line((found, "text"), ("   n next", "muted"))
        return self._state()

    # ---- keys -------------------------------------------------------------------------------------------------------

    def action_record(self) -> None:
        """Record now."""
        self.profiler.record(self._pid)
        self.repaint()

    def action_seconds(self, steps: int) -> None:
        """The next recording is longer or shorter."""
        self.profiler.longer(steps)
        self.repaint()

    def action_sleepers(self) -> None:
        """Show or leave out threads that sleep."""
        self._hide_sleep = not self._hide_sleep
        self._grow()
        self.repaint()

    def action_search(self) -> None:
        """Type what to look for."""
        field = self.query_one(Field)
        field.add_class("-open")
        field.focus()

    def action_next_found(self) -> None:
        """The next frame that was found."""
        self.query_one(FlameGraph).next_found()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one(FlameGraph).search(event.value)
        self.repaint()

    @on(Input.Submitted)
    def _searched(self) -> None:
        self._leave_search()
        self.query_one(FlameGraph).next_found()

    def _leave_search(self) -> None:
        field, graph = self.query_one(Field), self.query_one(FlameGraph)
        graph.focus()
        if not field.value.strip():
            field.remove_class("-open")

    @on(FlameGraph.Moved)
    def _moved(self) -> None:
        self.query_one(Note).repaint()

    def action_save(self) -> None:
        """Folded text and speedscope's JSON."""
        if self._shown is None:
            return
        from platformdirs import user_data_path

        from pagewise.app.profiler.saved import save_stacks

        folder = user_data_path("pagewise") / "stacks"
        try:
            folded, _ = save_stacks(self._shown, folder, time.localtime())
        except OSError as error:
            self._saved = f"▲ Not saved in {folder}: {error.strerror or error}"
        else:
            self._saved = f"Saved {_home(folded)} and .speedscope.json (open it at speedscope.app)"
        self.repaint()

    def action_close(self) -> None:
        """Out of the search, out of the zoom, back."""
        field, graph = self.query_one(Field), self.query_one(FlameGraph)
        if field.has_focus or field.value:
            field.value = ""
            self._leave_search()
        elif not graph.zoom_out():
            self.dismiss(None)


_WHAT = (
    "A flame graph shows where the time of a process goes: each bar is a function, as wide as its share of the "
    "samples, below the function that called it."
)


def _home(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(f"{home}/") else str(path)

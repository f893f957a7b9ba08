"""F7: the next token, node by node, as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.profiler.asked import Profiler
from pagewise.app.profiler.drawing import told
from pagewise.app.profiler.operators import GROUPINGS, ORDERS, draw_head, draw_row, explain_cost, rows
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, clip, wrap
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.keys import Key
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.app.widgets.painted import Painted
from pagewise.readings import OperatorProfile

_BEAT_S = 0.25
_ASKED = "The next token is profiled node by node. It takes longer for it; the tokens after it do not."
_IDLE = "No reply is being written: Esc, and ask something."
_NONE = "F7 profiles the next token node by node. It takes longer for it; the tokens after it do not."


class Head(Painted):
    """The columns' names."""

    def __init__(self, draw: Callable[[int], Line]) -> None:
        super().__init__(id="operators-head")
        self._draw = draw

    def paint(self, width: int, height: int) -> list[Line]:
        """The line."""
        return [clip((("  ", "text"), *self._draw(max(width - 2, 1))), width)]


class OperatorsScreen(Sheet[None]):
    """Groups, sorts and filters one profile. ``works``: whether a reply is being written now."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "flame.tcss", "operators.tcss"]
    KEYS: ClassVar[list[Key]] = [("←→", "group by"), ("Tab", "sort by"), ("F7", "profile again"), ("Esc", "back")]

    def __init__(self, profiler: Profiler, works: Callable[[], bool]) -> None:
        super().__init__("Operators of one token")
        self.profiler = profiler
        self._works = works
        self.grouping = 0
        self.order = 0
        self._shown: OperatorProfile | None = None

    def body(self) -> list[Widget]:
        """Filter, table, note."""
        return [
            Field("type to filter: norm, q6_K, attn_q, 3 …"),
            Head(self._head),
            Listing("", id="operators-list"),
            Page(self._note, id="operators-note"),
        ]

    def on_mount(self) -> None:
        """Ask for the first profile at once."""
        super().on_mount()
        for name in ("#operators-list", "#operators-note"):
            self.query_one(name).can_focus = False
        self.query_one(Field).focus()
        if self.profiler.operators is None and not self.profiler.asked_operators:
            self.profiler.profile_operators()
        self.set_interval(_BEAT_S, self._beat)
        self.call_after_refresh(self._rows)

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def _beat(self) -> None:
        if self.profiler.operators is not self._shown:
            self._rows()
        self.query_one("#operators-note", Page).repaint()

    def _rows(self) -> None:
        self._shown = profile = self.profiler.operators
        listing = self.query_one(Listing)
        width = max(listing.content_size.width - 2, 1)
        found = rows(profile, self.grouping, self.order, self.query_one(Field).value) if profile else []
        whole = sum(node.ms for node in profile.nodes) if profile else 0.0
        listing.show([draw_row(row, whole, width) for row in found])
        listing.styles.height = "1fr"
        self.query_one(Head).repaint()
        self.query_one("#operators-note", Page).repaint()

    def _head(self, width: int) -> Line:
        return draw_head(f"by {GROUPINGS[self.grouping][0]}", self.order, width)

    def _note(self, width: int) -> list[Line]:
        profiler = self.profiler
        if profiler.operators_failure is not None:
            return wrap(told(profiler.operators_failure), width)
        if profiler.asked_operators:
            words = _ASKED if self._works() else f"{_ASKED} {_IDLE}"
            return wrap((("● ", "warn"), (words, "text")), width)
        return wrap(explain_cost(profiler.operators), width) if profiler.operators else [BLANK, ((_NONE, "muted"),)]

    @on(Input.Changed)
    def _typed(self) -> None:
        self._rows()

    def on_key(self, event: events.Key) -> None:
        """The table is steered from the line that is typed in."""
        listing, field = self.query_one(Listing), self.query_one(Field)
        if event.key in ("left", "right") and not field.value:
            self.grouping = (self.grouping + (1 if event.key == "right" else -1)) % len(GROUPINGS)
        elif event.key in ("tab", "shift+tab"):
            self.order = (self.order + (1 if event.key == "tab" else -1)) % len(ORDERS)
        elif event.key == "f7":
            self.profiler.profile_operators()
        elif event.key in ("up", "down", "pageup", "pagedown"):
            listing.handle_list_key(event.key)
        else:
            return
        event.stop()
        event.prevent_default()
        self._rows()

    def action_close(self) -> None:
        """Out of the filter, then back."""
        field = self.query_one(Field)
        if field.value:
            field.value = ""
        else:
            self.dismiss(None)

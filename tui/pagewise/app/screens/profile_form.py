"""A profile as a form, made from the schema: what each key means, takes and costs, and the plan as one types."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import events, on
from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.profiles.form import KEY_WIDTH, MARK, FormRows, draw_about, draw_entry, entries, value_width
from pagewise.app.profiles.plan import draw_plan
from pagewise.app.profiles.planner import Planner
from pagewise.app.profiles.words import draw_change, draw_failure
from pagewise.app.screens.profile_name import NameScreen
from pagewise.app.screens.sheet import Sheet
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, wrap
from pagewise.app.visible import at_home, visible_line
from pagewise.app.widgets.field import Field as TypedField
from pagewise.app.widgets.keys import Key
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.messages import Failure
from pagewise.profiles.cost import change_class
from pagewise.profiles.draft import Draft
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.fields import Field
from pagewise.settings import Profile

_DETAIL, _BRIEF_DETAIL = 14, 10
"""Rows that what stands below the fields would like to have."""
_TALL = 32
"""Rows of the terminal from which on the plan is drawn in full."""
_BEAT_S = 2.0
"""How often the plan is looked at again: memory is taken and given meanwhile."""


class Edited(NamedTuple):
    """How the form was left: saved, or to be tried without being saved."""

    name: str
    saved: bool
    profile: Profile | None = None


class FormScreen(Sheet[Edited]):
    """Up and Down choose a key, typing changes it. ``planner`` is that of the screen below."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "profile_form.tcss"]
    KEYS: ClassVar[list[Key]] = [
        ("^S", "save"),
        ("^N", "save as"),
        ("F6", "try unsaved"),
        ("^R", "take back"),
        ("Esc", "close"),
        ("↑↓", "key"),
        ("←→", "choice"),
    ]

    def __init__(self, session: Session, draft: Draft, planner: Planner) -> None:
        where = "ships with pagewise, saved as another" if draft.path is not None and draft.read_only else "in no file"
        super().__init__(
            f"Edit {visible_line(draft.name)}",
            at_home(draft.path) if draft.path is not None and not draft.read_only else where,
        )
        self._session, self._draft, self._planner = session, draft, planner
        self._entries = entries()
        self._failure: Failure | None = None
        self._leaving = False

    def body(self) -> list[Widget]:
        """The rows with the line that is typed in among them, and what is true of the chosen key."""
        return [Container(FormRows(), TypedField(""), id="rows"), Page(self._detail, id="detail")]

    def fit(self, room: int) -> None:
        """The detail takes what it needs, the rows the rest."""
        rows = max(room - (_DETAIL if self.size.height >= _TALL else _BRIEF_DETAIL), (room - 1) // 2, 1)
        rows = min(rows, len(self._entries))
        self.query_one("#rows").styles.height = rows
        self.query_one("#fields").styles.max_height = rows
        self.query_one("#detail").styles.height = max(room - rows, 1)

    def on_mount(self) -> None:
        """At the first key."""
        super().on_mount()
        self.query_one("#detail").can_focus = False
        rows = self.query_one(FormRows)
        rows.headings = frozenset(index for index, entry in enumerate(self._entries) if not isinstance(entry, Field))
        rows.chosen = 1
        self.set_interval(_BEAT_S, self._look)
        self._show()
        self.call_after_refresh(self._enter)

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._enter)

    def repaint(self) -> None:
        """A plan has arrived."""
        if self.is_mounted:
            self._show()
            super().repaint()

    @property
    def _field(self) -> Field:
        entry = self._entries[self.query_one(FormRows).chosen]
        assert isinstance(entry, Field)
        return entry

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        rows = self.query_one(FormRows)
        width = max(rows.content_size.width - MARK, 1)
        rows.show([draw_entry(entry, self._draft, width) for entry in self._entries])
        self.query_one("#detail", Page).repaint()

    def _enter(self) -> None:
        """Put the line that is typed in over the value of the chosen key; keys with few values have none."""
        rows, typed, field = self.query_one(FormRows), self.query_one(TypedField), self._field
        self._show()
        text = self._draft.text(field.key)
        typed.display = not field.choices
        if field.choices:
            rows.focus()
            return
        typed.styles.offset = (MARK + KEY_WIDTH, rows.chosen - rows.first)
        typed.styles.width = value_width(rows.content_size.width) - 1
        with self.prevent(Input.Changed):
            typed.value = text
        typed.cursor_position = len(text)
        typed.focus()

    def _detail(self, width: int) -> list[Line]:
        lines: list[Line] = [(("─" * width, "faint"),)]
        if self._leaving:
            asked = (("▲ ", "warn"), ("The changes are not saved.  ", "strong"), ("Esc", "value"))
            return [*lines, *wrap((*asked, (" again drops them, any other key goes back", "muted")), width, rest=2)]
        if self._failure is not None:
            lines += [*draw_failure(self._failure, width), BLANK]
        lines += draw_about(self._field, self._draft, width)
        profile, now, brief = self._draft.profile(), self._session.profile, self.size.height < _TALL
        gap = [] if brief else [BLANK]
        lines += [*gap, *draw_plan(self._planner.shown(profile), width, brief)]
        return [*lines, *gap, *draw_change(*change_class(now, profile), width)] if now is not None else lines

    # ---- keys -------------------------------------------------------------------------------------------------------

    async def on_key(self, event: events.Key) -> None:
        """The rows are steered from the line that is typed in."""
        leaving, self._leaving = self._leaving, False
        if leaving and event.key != "escape":
            event.stop()
            event.prevent_default()
            self._show()
            return
        self._leaving = leaving
        rows, field = self.query_one(FormRows), self._field
        match event.key:
            case "up" | "down" | "pageup" | "pagedown":
                rows.handle_list_key(event.key)
            case "enter" | "tab":
                rows.move(1)
            case "shift+tab":
                rows.move(-1)
            case "left" | "right" if field.choices:
                self._choose(field, 1 if event.key == "right" else -1)
            case "ctrl+r":
                self._draft.reset(field.key)
                self._changed()
                self._enter()
            case "ctrl+s":
                self._save()
            case "ctrl+n":
                self._save_as()
            case "f6":
                self.dismiss(Edited(self._draft.name, False, self._draft.profile()))
            case _:
                if field.choices and event.character is not None and event.is_printable:
                    self._jump(field, event.character)
                return
        event.stop()
        event.prevent_default()

    @on(Listing.Moved)
    def _moved(self) -> None:
        self._failure = None
        self._enter()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._draft.type(self._field.key, event.value)
        self._changed()

    def _choose(self, field: Field, by: int) -> None:
        text = self._draft.text(field.key)
        at = field.choices.index(text) if text in field.choices else -1
        self._draft.type(field.key, field.choices[(at + by) % len(field.choices)])
        self._changed()

    def _jump(self, field: Field, letter: str) -> None:
        """To the next choice that begins so."""
        text = self._draft.text(field.key)
        at = field.choices.index(text) if text in field.choices else -1
        order = [field.choices[(at + 1 + step) % len(field.choices)] for step in range(len(field.choices))]
        found = next((choice for choice in order if choice.startswith(letter)), None)
        if found is not None:
            self._draft.type(field.key, found)
            self._changed()

    def _changed(self) -> None:
        self._failure = None
        self._look()
        self._show()

    def _look(self) -> None:
        self._planner.look(self._draft.profile())

    # ---- saving -----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._is_wrong():
            return
        if self._draft.read_only:
            self._save_as()
            return
        try:
            self._draft.save()
        except ProfileError as error:
            self._failure = error.failure
            self._show()
            return
        self.dismiss(Edited(self._draft.name, True))

    def _save_as(self) -> None:
        if not self._is_wrong():
            proposed = f"{self._draft.name}-mine"
            self.app.push_screen(NameScreen("Save as another profile", proposed, self._draft.save_as), self._saved)

    def _saved(self, path: Path | None) -> None:
        if path is not None:
            self.dismiss(Edited(path.stem, True))

    def _is_wrong(self) -> bool:
        """Whether something typed is no value; then its key is gone to."""
        wrong = next(iter(self._draft.wrong), None)
        if wrong is None:
            return False
        rows = self.query_one(FormRows)
        at = next(index for index, entry in enumerate(self._entries) if isinstance(entry, Field) and entry.key == wrong)
        rows.move(at - rows.chosen)
        return True

    def action_close(self) -> None:
        """Changes are not dropped at the first Esc."""
        if (self._draft.changed or self._draft.wrong) and not self._leaving:
            self._leaving = True
            self._show()
            return
        self.dismiss(None)

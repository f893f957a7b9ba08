"""A name for a profile that is to be saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.profiles.words import draw_failure
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import Line, wrap
from pagewise.app.visible import at_home
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.keys import Key
from pagewise.app.widgets.page import Page
from pagewise.messages import Failure


class NameScreen(Sheet[Path]):
    """``save`` writes the profile under the name, or raises ProfileError. The result is the file."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "conversations.tcss"]
    KEYS: ClassVar[list[Key]] = [("⏎", "save"), ("Esc", "back")]

    def __init__(self, heading: str, proposed: str, save: Callable[[str], Path]) -> None:
        super().__init__(heading)
        self._proposed = proposed
        self._save = save
        self._failure: Failure | None = None

    def body(self) -> list[Widget]:
        """The name, and where it will be."""
        return [Field("the name of the profile"), Page(self._note, id="note")]

    def on_mount(self) -> None:
        """Begin with the proposal."""
        super().on_mount()
        self.query_one("#note").can_focus = False
        field = self.query_one(Field)
        field.value = self._proposed
        field.cursor_position = len(field.value)
        field.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        from pagewise.profiles.errors import ProfileError
        from pagewise.profiles.save import check_new_name

        self._failure = None
        if event.value:
            try:
                check_new_name(event.value.strip())
            except ProfileError as error:
                self._failure = error.failure
        self.query_one("#note", Page).repaint()

    def _note(self, width: int) -> list[Line]:
        from pagewise.profiles.folders import user_folder

        if self._failure is not None:
            return draw_failure(self._failure, width)
        name = self.query_one(Field).value.strip() or "NAME"
        where = at_home(user_folder() / f"{name}.toml")
        return wrap((("It will be  ", "muted"), (where, "text")), width, rest=12)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        from pagewise.profiles.errors import ProfileError

        name = event.value.strip()
        try:
            path = self._save(name)
        except ProfileError as error:
            self._failure = error.failure
            self.query_one("#note", Page).repaint()
            return
        self.dismiss(path)

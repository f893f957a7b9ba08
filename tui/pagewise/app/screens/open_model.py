"""Ctrl+O: a GGUF file from disk as the model, by its path."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from textual import events, on
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.figures import size
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, ends, line, wrap
from pagewise.app.visible import visible_line
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.settings import Profile

MAGIC = b"GGUF"
_AROUND_LIST = 6
"""Rows of the line that is typed in and of the note."""
_SHOWN = 200
"""Entries of a folder that are offered; typing narrows them."""


def problem(path: Path) -> str | None:
    """Why this cannot be opened as a model, with what to do; None if it looks right. The engine has the last word."""
    try:
        if path.is_dir():
            return _folder_problem(path)
        if not path.exists():
            return "There is no such file. Tab completes what is there."
        if path.stat().st_size == 0:
            return "The file is empty: its download did not finish, or failed. Get it again."
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"It cannot be read: {error.strerror or error}."
    if magic == MAGIC:
        return None
    if path.suffix == ".safetensors":
        return (
            "This is a safetensors file, as PyTorch programs use; llama.cpp needs GGUF. Look for the same model with "
            "GGUF in its name, or convert its folder with llama.cpp's convert_hf_to_gguf.py."
        )
    return "This is not a GGUF file: it does not begin with the letters GGUF."


def _folder_problem(path: Path) -> str | None:
    names = [entry.name for entry in path.iterdir()]
    if any(name.endswith(".safetensors") for name in names):
        return (
            "This is a Hugging Face model folder; llama.cpp needs one GGUF file. Look for the same model with GGUF in "
            "its name, or convert the folder with llama.cpp's convert_hf_to_gguf.py."
        )
    if any(name.endswith(".gguf") for name in names):
        return "This is a folder: choose one of its GGUF files below (of a split model, the first part)."
    return "This is a folder without a GGUF file."


def offers(typed: str) -> list[Path]:
    """Folders and GGUF files that complete what is typed, folders first."""
    path = Path(typed).expanduser()
    folder, beginning = (path, "") if typed.endswith("/") or not typed else (path.parent, path.name)
    try:
        entries = [
            entry
            for entry in os.scandir(folder)
            if entry.name.startswith(beginning)
            and (beginning.startswith(".") or not entry.name.startswith("."))
            and (entry.is_dir() or entry.name.endswith(".gguf"))
        ]
    except OSError:
        return []
    entries.sort(key=lambda entry: (not entry.is_dir(), entry.name))
    return [Path(entry.path) for entry in entries[:_SHOWN]]


def profile_for(path: Path, now: Profile) -> Profile:
    """The present profile with another model."""
    return msgspec.structs.replace(
        now,
        name=path.name.removesuffix(".gguf")[:60] or "model",
        description="",
        model=str(path.absolute()),
        quant=None,
        source="",
    )


class OpenModelScreen(Sheet[Profile]):
    """Its result is a profile with the chosen file."""

    CSS_PATH = ["sheet.tcss", "conversations.tcss"]
    KEYS = [("⏎", "open"), ("Tab", "complete"), ("↑↓", "choose"), ("Esc", "close")]
    BINDINGS = [("ctrl+o", "close", "Close")]

    def __init__(self, now: Profile) -> None:
        super().__init__("Open a model file", "GGUF")
        self._now = now
        self._offers: list[Path] = []
        self._why: str | None = None

    def body(self) -> list[Widget]:
        """The path, what completes it, and what is wrong with it."""
        return [
            Field("type or paste the path of a GGUF file"),
            Page(self._note, id="note"),
            Listing("nothing here completes this path", id="list"),
        ]

    def fit(self, room: int) -> None:
        """The list takes what the line that is typed in and the note leave."""
        self.query_one("#list").styles.max_height = max(room - _AROUND_LIST, 1)

    def on_mount(self) -> None:
        """Begin where the present model lies."""
        super().on_mount()
        for name in ("#note", "#list"):
            self.query_one(name).can_focus = False
        field = self.query_one(Field)
        model = Path(self._now.model)
        field.value = f"{model.parent}/" if model.is_absolute() else f"{Path.cwd()}/"
        field.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._why = None
        self._offers = offers(event.value)
        self.query_one(Listing).chosen = 0
        self._rows()

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def _rows(self) -> None:
        listing = self.query_one(Listing)
        width = listing.content_size.width - 2
        listing.show([_offer(path, width) for path in self._offers])
        self.query_one("#note", Page).repaint()

    def _note(self, width: int) -> list[Line]:
        if self._why is None:
            return [BLANK]
        return [*wrap((("▲ ", "warn"), (visible_line(self._why), "text")), width, rest=2), BLANK]

    async def on_key(self, event: events.Key) -> None:
        """Tab completes; the list is steered from the line that is typed in."""
        listing = self.query_one(Listing)
        if event.key == "tab":
            event.stop()
            event.prevent_default()
            if self._offers:
                self._complete(self._offers[listing.chosen])
        elif event.key in ("up", "down", "pageup", "pagedown"):
            event.stop()
            event.prevent_default()
            listing.handle_list_key(event.key)

    def _complete(self, path: Path) -> None:
        field = self.query_one(Field)
        field.value = f"{path}/" if path.is_dir() else str(path)
        field.cursor_position = len(field.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        typed = event.value.strip().strip("'\"")
        path = Path(typed).expanduser()
        chosen = self._offers[self.query_one(Listing).chosen] if self._offers else None
        if (typed.endswith("/") or not path.is_file()) and chosen is not None:
            self._complete(chosen)
            if chosen.is_dir():
                return
            path = chosen
        self._why = problem(path) if typed else "Type or paste a path first."
        if self._why is None:
            self.dismiss(profile_for(path, self._now))
            return
        self._rows()

    @on(Listing.Taken)
    def _taken(self, event: Listing.Taken) -> None:
        self._complete(self._offers[event.row])


def _offer(path: Path, width: int) -> Line:
    if path.is_dir():
        return line((f"{visible_line(path.name)}/", "muted"))
    try:
        bytes_ = size(path.stat().st_size)
    except OSError:
        bytes_ = ""
    return ends(((visible_line(path.name), "text"),), ((bytes_, "muted"),), width)

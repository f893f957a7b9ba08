"""Ctrl+O: another model: of those on the machine, from the hub, or by the path of its file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

import msgspec
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from pagewise.app.catalog import SORTS, Sort, chosen, room_in_words
from pagewise.app.figures import count, rate, size
from pagewise.app.hub_visit import HubVisit, reference
from pagewise.app.opening.rows import about, draw_level, draw_offer, draw_path
from pagewise.app.path_offers import is_path, offers, problem
from pagewise.app.screens.sheet import Sheet
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, line, wrap
from pagewise.app.visible import visible_line
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.failure import Failure
from pagewise.jobs.base import JobAnswer, JobFailed, JobProgress
from pagewise.jobs.catalog import Catalog, CatalogFile, CatalogModel, FindModels, ModelsFound
from pagewise.jobs.pull import Offer
from pagewise.settings import Profile

_NOTE = 4
"""Rows of the note at most, its blank one with them."""
_AROUND_LIST = 2 + _NOTE
_NAME = 60
_WIDE = 96
_NO_HOST = Failure("There is no host that could look", "It has ended.", "A path still opens a file, once it is back.")
Row = Path | tuple[CatalogModel, CatalogFile] | Offer | str
"""What can be chosen: a path, a quant level that is here, one that the hub has, or a repository's name."""


def profile_for(path: Path, now: Profile, name: str = "") -> Profile:
    """The present profile with another model."""
    return msgspec.structs.replace(
        now,
        name=name or path.name.removesuffix(".gguf")[:_NAME] or "model",
        description="",
        model=str(path.absolute()),
        quant=None,
        source="",
    )


class OpenModelScreen(Sheet[Profile]):
    """Its result is a profile with the chosen model. What is typed filters; a path opens; ``org/repo`` fetches."""

    CSS_PATH = ["sheet.tcss", "conversations.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "close", "Close", show=False),
        Binding("ctrl+s", "sort", "Sort", show=False, priority=True),
        Binding("ctrl+f", "fits", "Fits", show=False, priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__("Open a model")
        self._session = session
        self._now = session.profile or session.wanted
        self._catalog: Catalog | None = None
        self._failure: Failure | None = None
        self._looking: JobProgress | None = None
        self._sort: Sort = "name"
        self._fits = False
        self._hub = HubVisit(session.jobs, self._hub_changed)
        self._choice: list[Row] = []
        self._why: str | None = None
        self._job: int | None = None

    def body(self) -> list[Widget]:
        """What is typed, what there is of it, and what is to be said of that."""
        return [
            Field("words to filter, a path, or org/repo of the hub"),
            Listing("", id="list"),
            Page(self._note, id="note"),
        ]

    def fit(self, room: int) -> None:
        """The list takes what the line that is typed in and the note leave."""
        self.query_one("#list").styles.max_height = max(room - _AROUND_LIST, 1)

    def on_mount(self) -> None:
        """Ask the host what there is."""
        super().on_mount()
        for name in ("#note", "#list"):
            self.query_one(name).can_focus = False
        self.query_one(Field).focus()
        self._look()
        self._show()

    def on_unmount(self) -> None:
        """What was asked for here is for nobody any more."""
        if self._job is not None:
            self._session.jobs.stop(self._job)
        self._hub.stop()

    def on_resize(self, event: events.Resize) -> None:
        """Rows depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._show)

    # ---- what the host says -----------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._session.host is None:
            self._failure = _NO_HOST
        else:
            self._job = self._session.jobs.ask(FindModels, self._found, self._told)

    def _told(self, progress: JobProgress) -> None:
        self._looking = progress
        self._show()

    def _found(self, answer: JobAnswer) -> None:
        self._job = self._looking = None
        if isinstance(answer, ModelsFound):
            self._catalog = answer.catalog
        elif isinstance(answer, JobFailed) and not answer.cancelled:
            self._failure = answer.failure
        self._show()

    def _hub_changed(self) -> None:
        if not self.is_mounted:
            return
        if self._hub.brought is not None and self._job is None:
            self._look()
        self._show()

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        if not self.is_mounted:
            return
        listing = self.query_one(Listing)
        width = listing.content_size.width - 2
        typed = self.query_one(Field).value
        if is_path(typed):
            self._choice = list(offers(typed))
            rows = [draw_path(path, width) for path in offers(typed)]
        elif self._hub_is_shown(typed):
            found = self._hub.offers
            self._choice = list(found.levels) if found is not None else []
            rows = [draw_offer(offer, width) for offer in found.levels] if found is not None else []
        else:
            rows = self._catalog_rows(typed, width)
        listing.show(rows)
        self.query_one("#note", Page).repaint()
        self.query_one(Keys).show(self._keys(typed))

    def _hub_is_shown(self, typed: str) -> bool:
        named = reference(typed)
        return named is not None and named[0] == self._hub.repository

    def _catalog_rows(self, typed: str, width: int) -> list[Line]:
        rows: list[Line] = []
        self._choice = []
        here = self._session.model.path if self._session.model is not None else ""
        models = chosen(self._catalog, self._sort, typed, self._fits) if self._catalog is not None else []
        for model in models:
            for number, level in enumerate(model.levels):
                self._choice.append((model, level))
                rows.append(draw_level(model, level, number == 0, level.path == here, width))
        named = reference(typed)
        if named is not None:
            self._choice.append(named[0])
            rows.append(line(("from the hub: ", "muted"), (named[0], "accent")))
        return rows

    def _keys(self, typed: str) -> list[Key]:
        if self._hub.busy:
            return [("Esc", "stop, and keep what came")]
        if is_path(typed):
            return [("⏎", "open"), ("Tab", "complete"), ("↑↓", "choose"), ("Esc", "close")]
        if self._hub_is_shown(typed):
            return [("⏎", "open" if self._hub.brought else "fetch"), ("↑↓", "choose"), ("Esc", "back")]
        by = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        fits = "all" if self._fits else "what fits"
        enter = "look" if isinstance(self._row(), str) else "open"
        return [("⏎", enter), ("↑↓", "choose"), ("^S", f"by {by}"), ("^F", fits), ("Esc", "close")]

    def _note(self, width: int) -> list[Line]:
        typed = self.query_one(Field).value
        if self._why is not None:
            said = wrap((("▲ ", "warn"), (visible_line(self._why), "text")), width, rest=2)
        elif is_path(typed):
            said = [] if self._choice else [line(("nothing here completes this path", "muted"))]
        elif self._hub_is_shown(typed):
            said = self._hub_note(width)
        else:
            said = self._catalog_note(typed, width)
        return [BLANK, *said[: _NOTE - 1]] if said else []

    def _hub_note(self, width: int) -> list[Line]:
        hub = self._hub
        if hub.busy:
            return wrap(((hub.under_way(), "text"),), width)
        if hub.failure is not None:
            return _failure(hub.failure, width)
        if hub.stopped:
            return wrap((("Stopped. What came is kept: ⏎ goes on there.", "text"),), width)
        if hub.brought is not None:
            brought = hub.brought
            speed = f" at {rate(brought.fetched_bytes / brought.seconds)}" if brought.seconds > 0 else ""
            how = f"{size(brought.fetched_bytes)} fetched{speed}" if brought.fetched_bytes else "It was here already"
            return wrap(((f"{how}. ", "text"), ("⏎", "value"), (" opens it.", "text")), width)
        if hub.offers is not None and not hub.offers.levels:
            return wrap((("It has no GGUF files. Look for the model with GGUF in its name.", "text"),), width)
        room = hub.offers.room if hub.offers is not None else None
        return wrap(((f"{room_in_words(room)}; counted without the KV cache.", "muted"),), width)

    def _catalog_note(self, typed: str, width: int) -> list[Line]:
        catalog = self._catalog
        if self._failure is not None:
            return _failure(self._failure, width)
        if catalog is None:
            told = self._looking
            far = f": header {count(told.done)} of {count(told.total)}" if told is not None and told.total else ""
            return [line((f"Looking through this machine{far} …", "muted"))]
        if not self._choice:
            return _nothing(catalog, typed, self._fits, width)
        row = self._choice[min(self.query_one(Listing).chosen, len(self._choice) - 1)]
        if not isinstance(row, tuple):
            return wrap((("⏎", "value"), (" sees what it has; nothing is fetched yet.", "muted")), width)
        return [*about(*row, time.time()), line((_summary(catalog, width), "muted"))]

    # ---- what the person does ---------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._why = None
        self.query_one(Listing).chosen = 0
        self._show()

    @on(Listing.Moved)
    def _moved(self) -> None:
        self.query_one("#note", Page).repaint()
        self.query_one(Keys).show(self._keys(self.query_one(Field).value))

    def action_sort(self) -> None:
        """Another order."""
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self.query_one(Listing).chosen = 0
        self._show()

    def action_fits(self) -> None:
        """Only what fits, or all."""
        self._fits = not self._fits
        self.query_one(Listing).chosen = 0
        self._show()

    def action_close(self) -> None:
        """Stop what is under way; else leave the repository; else close."""
        if self._hub.busy:
            self._hub.stop()
        elif self._hub_is_shown(self.query_one(Field).value):
            self._hub.repository = ""
            self.query_one(Field).value = ""
        else:
            self.dismiss(None)

    async def on_key(self, event: events.Key) -> None:
        """Tab completes a path; the list is steered from the line that is typed in."""
        listing = self.query_one(Listing)
        if event.key == "tab":
            event.stop()
            event.prevent_default()
            row = self._row()
            if isinstance(row, Path):
                self._complete(row)
        elif event.key in ("up", "down", "pageup", "pagedown"):
            event.stop()
            event.prevent_default()
            listing.handle_list_key(event.key)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        typed = event.value.strip().strip("'\"")
        if is_path(typed):
            self._open_path(typed)
        else:
            self._take(self._row())

    @on(Listing.Taken)
    def _taken(self, event: Listing.Taken) -> None:
        row = self._choice[event.row]
        if isinstance(row, Path):
            self._complete(row)
        else:
            self._take(row)

    def _row(self) -> Row | None:
        listing = self.query_one(Listing)
        return self._choice[listing.chosen] if listing.chosen < len(self._choice) else None

    def _take(self, row: Row | None) -> None:
        if self._hub.busy:
            return
        if isinstance(row, tuple):
            model, level = row
            name = f"{model.name}-{level.quant}".replace(" ", "-")[:_NAME]
            self.dismiss(profile_for(Path(level.path), self._now, name))
        elif isinstance(row, str):
            self._hub.look(row)
        elif isinstance(row, Offer):
            brought = self._hub.brought
            path = brought.path if brought is not None and brought.offer == row.files[0] else None
            if path is not None:
                self.dismiss(profile_for(Path(path), self._now))
            else:
                self._hub.fetch(row)

    def _open_path(self, typed: str) -> None:
        path = Path(typed).expanduser()
        row = self._row()
        if (typed.endswith("/") or not path.is_file()) and isinstance(row, Path):
            self._complete(row)
            if row.is_dir():
                return
            path = row
        self._why = problem(path)
        if self._why is None:
            self.dismiss(profile_for(path, self._now))
        else:
            self._show()

    def _complete(self, path: Path) -> None:
        field = self.query_one(Field)
        field.value = f"{path}/" if path.is_dir() else str(path)
        field.cursor_position = len(field.value)


def _failure(failure: Failure, width: int) -> list[Line]:
    words = f"{visible_line(failure.what)}. {visible_line(failure.why)} {visible_line(failure.next)}"
    return wrap((("▲ ", "warn"), (words, "text")), width, rest=2)


def _nothing(catalog: Catalog, typed: str, fits: bool, width: int) -> list[Line]:
    if catalog.models:
        why = "No model here holds these words" if typed else "No model here fits"
        also = " and fits" if typed and fits else ""
        return wrap(((f"{why}{also}. org/repo looks on the hub; a path opens a file.", "muted"),), width)
    return [
        line(("There is no GGUF model on this machine yet.", "text")),
        *wrap(
            (
                ("Type ", "muted"),
                ("org/repo", "value"),
                (" to fetch one from the hub, or ", "muted"),
                ("/", "value"),
                (" and the path of a file.", "muted"),
            ),
            width,
        ),
        line((f"Folders of your own: a line each in {visible_line(catalog.own_folders)}", "muted")),
    ]


def _summary(catalog: Catalog, width: int) -> str:
    n = sum(len(model.levels) for model in catalog.models)
    bad = len(catalog.unusable)
    why = " (`pagewise models` says why)" if width >= _WIDE else ""
    unusable = f"{count(bad)} not usable{why}" if bad else ""
    return " · ".join(filter(None, (room_in_words(catalog.room), f"{count(n)} files", unusable)))

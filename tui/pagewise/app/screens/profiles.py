"""F2: the profiles, and what choosing each would change, cost, and take of the memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.widget import Widget

from pagewise.app.profiles.making import Making
from pagewise.app.profiles.plan import draw_plan
from pagewise.app.profiles.planner import Planner
from pagewise.app.profiles.rows import Columns, Row, draw_head, draw_row
from pagewise.app.profiles.shelf import Shelf
from pagewise.app.profiles.words import draw_change, draw_deletion, draw_failure, draw_unusable
from pagewise.app.progress import draw_progress
from pagewise.app.screens.sheet import Sheet
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, clip, wrap
from pagewise.app.visible import at_home, visible, visible_line
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.messages import Failure

if TYPE_CHECKING:
    from pagewise.app.screens.profile_form import Edited
    from pagewise.jobs.base import JobAnswer
    from pagewise.jobs.quantize import Quantized
    from pagewise.profiles.files import ProfileSet
    from pagewise.settings import Profile

_DETAIL = 12
"""Rows that what stands below the table takes at least, where there are so many."""
_BEAT_S = 2.0
"""How often the chosen profile is looked at again: memory is taken and given meanwhile."""
_LETTERS = frozenset({"left", "right", "e", "f", "n", "d", "s"})


class ProfilesScreen(Sheet[None]):
    """Choose a profile; Enter switches, and the sheet stays until the new one is in force."""

    CSS_PATH: ClassVar[str | list[str] | None] = ["sheet.tcss", "profiles.tcss"]
    KEYS: ClassVar[list[Key]] = [("⏎", "switch"), ("E", "edit"), ("N", "new of now"), ("Esc", "close")]
    BINDINGS = [("f2", "close", "Close")]

    def __init__(self, session: Session, making: Making) -> None:
        now = session.profile
        super().__init__("Switch profile", f"now: {visible_line(now.name)}" if now is not None else "")
        self._session, self._making, self._shelf = session, making, Shelf()
        self._planner = Planner(session.jobs, lambda seconds, call: self.set_timer(seconds, call))
        self._folder: Path | None = None
        """The user's own."""
        self._failure: tuple[Failure, str | None] | None = None
        self._asked: Profile | None = None
        self._deleting: tuple[Profile, tuple[str, ...]] | None = None
        self._said = ""
        self._was_loading = session.load is not None

    def body(self) -> list[Widget]:
        """The table, and what is true of the chosen row."""
        return [
            Page(lambda width: [clip((("  ", "text"), *draw_head(self._columns(width - 2))), width)], id="head"),
            Listing("reading the profiles…", id="list"),
            Page(self._detail, id="detail"),
        ]

    def fit(self, room: int) -> None:
        """The table may take half of it, what stands below it the rest."""
        table = max(min(len(self._shelf.files), room // 2), 1)
        self.query_one("#list").styles.max_height = table
        detail = self.query_one("#detail").styles
        detail.max_height = max(room - table - 1, 1)
        # What is said of a profile is of many lengths: the sheet stays where it is meanwhile.
        detail.min_height = max(min(_DETAIL, room - table - 1), 1)

    def on_mount(self) -> None:
        """Read the files without holding up the screen."""
        super().on_mount()
        self.query_one("#head").can_focus = False
        self.query_one("#detail").can_focus = False
        self.query_one(Listing).focus()
        self.read()
        self.find_models()
        self.set_interval(_BEAT_S, self._look)

    def on_unmount(self) -> None:
        """Nobody looks any more."""
        self._planner.leave()

    # ---- the profiles -----------------------------------------------------------------------------------------------

    def read(self, choose: str = "") -> None:
        """Read the files, again where they have changed; ``choose`` is the profile to stand at then."""
        self.run_worker(lambda: self._read(choose), thread=True, group="profiles", exit_on_error=True)

    def _read(self, choose: str) -> None:
        from pagewise.profiles.files import load_all, user_folder

        self._folder = user_folder()
        self.app.call_from_thread(self._show, load_all(), choose)

    def _show(self, found: ProfileSet, choose: str) -> None:
        before, now = self._chosen, self._session.profile
        self._shelf.show(found, now)
        names = [profile.name for profile in self._shelf.files]
        wanted = choose or (before.name if before is not None else now.name if now is not None else "")
        if wanted in names:
            self.query_one(Listing).chosen = names.index(wanted)
        self._fit()
        self._rows()
        self._look()
        self._planner.also(self._shelf.profiles)

    def find_models(self) -> None:
        """Look for the levels of each model."""
        from pagewise.jobs.catalog import FindModels

        if self._session.host is not None:
            self._session.jobs.ask(FindModels, self._found_models)

    def _found_models(self, answer: JobAnswer) -> None:
        from pagewise.jobs.catalog import ModelsFound

        if isinstance(answer, ModelsFound) and self.is_attached:
            self._shelf.catalog = answer.catalog
            self._rows()

    def level_made(self, made: Quantized) -> None:
        """A quant level is there now."""
        self._shelf.made(made)
        self.find_models()
        self._look()

    @property
    def _chosen(self) -> Profile | None:
        index = self.query_one(Listing).chosen
        profiles = self._shelf.profiles
        return profiles[index] if index < len(profiles) else None

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Columns depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def repaint(self) -> None:
        """A load goes on, or is over: then the sheet has done its work."""
        if not self.is_mounted:
            return
        loading = self._session.load is not None
        if self._was_loading and not loading:
            self._planner.forget()
        self._was_loading = loading
        if self._asked is not None and not loading and self._failure is None:
            now = self._session.profile
            if now is not None and now.name == self._asked.name:
                self.dismiss(None)
                return
            self._asked = None
        self._rows()
        super().repaint()

    def failed(self, failure: Failure, restored: str | None) -> None:
        """What was asked for did not work: say so here."""
        self._failure = (failure, restored)
        self._asked = None
        self._rows()

    def _columns(self, width: int) -> Columns:
        snapshot = self._session.readout.snapshot
        return Columns(width, snapshot is None or bool(snapshot.devices.devices))

    def _rows(self) -> None:
        listing = self.query_one(Listing)
        columns = self._columns(listing.content_size.width - 2)
        listing.show([draw_row(self._row(profile), columns) for profile in self._shelf.profiles])
        self.query_one("#head", Page).repaint()
        self.query_one("#detail", Page).repaint()
        self.query_one(Keys).show(self._keys())

    def _row(self, profile: Profile) -> Row:
        change, _ = self._shelf.change(self._session.profile, profile, self._session.switches.held)
        return Row(profile, change, self._shelf.quant(profile), self._planner.shown(profile))

    def _keys(self) -> list[Key]:
        """What can be done with the chosen one."""
        profile = self._chosen
        if profile is None or self._session.load is not None:
            return [("Esc", "cancel the load" if self._asked is not None else "close")]
        take, *others = self.KEYS
        keys = [("⏎", "make it") if self._shelf.to_make(profile) is not None else take]
        plan = self._planner.shown(profile).plan
        if self._making.is_under_way:
            keys.append(("S", "stop making"))
        if self._shelf.has_dial(profile):
            keys.append(("←→", "quant"))
        if plan is not None and plan.would_fit:
            keys.append(("F", "what fits"))
        return [*keys, *others, *([("D", "delete")] if self._is_own(profile) else [])]

    def _is_own(self, profile: Profile) -> bool:
        return bool(profile.source) and Path(profile.source).parent == self._folder

    def _detail(self, width: int) -> list[Line]:
        lines: list[Line] = [(("─" * width, "faint"),)]
        if self._asked is not None and self._session.load is not None:
            return [*lines, *draw_progress(self._session, width)]
        if self._deleting is not None:
            return [*lines, *draw_deletion(*self._deleting, width)]
        if self._failure is not None:
            lines += [*draw_failure(self._failure[0], width, self._failure[1]), BLANK]
        if self._said:
            lines += [*wrap(((self._said, "text"),), width), BLANK]
        profile = self._chosen
        if profile is not None:
            lines += [*self._making.draw_progress(width), *self._about(profile, width)]
        return [*lines, *draw_unusable(self._shelf.broken, width)]

    def _about(self, profile: Profile, width: int) -> list[Line]:
        lines = self._shelf.draw_dial(profile, width)
        to_make = self._shelf.to_make(profile)
        if to_make is not None:
            return [*lines, *self._making.draw(to_make, self._shelf.best(profile), width)]
        lines += draw_change(*self._shelf.change(self._session.profile, profile, self._session.switches.held), width)
        if profile.description:
            lines += wrap((("about   ", "muted"), (visible(profile.description), "muted")), width, rest=8)
        return [*lines, BLANK, *draw_plan(self._planner.shown(profile), width)]

    # ---- keys -------------------------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """Left and right step the quant; letters do the rest."""
        deleting, self._deleting = self._deleting, None
        if deleting is not None and event.key != "d":
            event.stop()
            event.prevent_default()
            self._rows()
            return
        profile = self._chosen
        if event.key not in _LETTERS or profile is None or self._session.load is not None:
            return
        event.stop()
        self._failure, self._said = None, ""
        match event.key:
            case "e":
                self._edit(profile)
            case "f":
                self._take_what_fits(profile)
            case "n":
                self._new()
            case "s":
                self._making.stop()
            case "d":
                self._delete(profile, confirmed=deleting is not None)
            case key:
                to_make = self._shelf.step(profile, 1 if key == "right" else -1)
                if to_make is not None:
                    self._making.look(to_make)
        self._rows()
        self._look()

    def _look(self) -> None:
        """What is chosen is what is planned first."""
        profile = self._chosen
        if profile is None or self._session.load is not None or not self.is_current:
            return
        if self._shelf.to_make(profile) is None:
            self._planner.look(profile)

    def _take_what_fits(self, profile: Profile) -> None:
        """The smallest change with which it fits, as the plan says."""
        from pagewise.profiles.errors import ProfileError
        from pagewise.profiles.files import overridden

        plan = self._planner.shown(profile).plan
        changes = [change for change in plan.would_fit if change.value] if plan is not None else []
        if not changes:
            self._said = "The plan knows no change to make here." if plan and not plan.fits else "It fits as it is."
            return
        try:
            self._shelf.vary(overridden(profile, f"{changes[0].key}={changes[0].value}"))
        except ProfileError as error:
            self._failure = (error.failure, None)

    def _edit(self, profile: Profile) -> None:
        from pagewise.app.screens.profile_form import FormScreen
        from pagewise.profiles.draft import open_draft

        draft = open_draft(self._shelf.files[self.query_one(Listing).chosen])
        if self._shelf.is_varied(profile.name):
            draft.take(profile)
        self.app.push_screen(FormScreen(self._session, draft, self._planner), self._edited)

    def _edited(self, edited: Edited | None) -> None:
        if edited is None:
            return
        if edited.profile is not None:
            self._shelf.vary(edited.profile)
            self._said = "Not saved: E saves it, Enter puts it in force as it is."
        else:
            self._shelf.settle(edited.name)
            self._said = f"{visible_line(edited.name)} is saved. Enter puts it in force."
            self.read(edited.name)
        self._rows()
        self._look()

    def _new(self) -> None:
        from pagewise.app.screens.profile_name import NameScreen
        from pagewise.profiles.draft import new_draft

        now = self._session.profile
        if now is None:
            self._said = "Nothing is loaded that could be kept as a profile."
            return
        name = NameScreen("Keep what runs now as a profile", f"{now.name}-mine", new_draft(now).save_as)
        self.app.push_screen(name, self._made)

    def _made(self, path: Path | None) -> None:
        if path is not None:
            self._said = f"{visible_line(path.stem)} is saved: {at_home(path)}"
            self.read(path.stem)

    def _delete(self, profile: Profile, confirmed: bool) -> None:
        from pagewise.profiles.errors import ProfileError
        from pagewise.profiles.folders import extending
        from pagewise.profiles.save import delete

        if not self._is_own(profile):
            self._said = "It ships with pagewise: it stays." if profile.source else "It is in no file of yours."
        elif not confirmed:
            self._deleting = (profile, extending(profile.name))
        else:
            try:
                delete(Path(profile.source))
            except ProfileError as error:
                self._failure = (error.failure, None)
                return
            self._said = f"{visible_line(profile.name)} is deleted."
            self._shelf.settle(profile.name)
            self.read()

    @on(Listing.Moved)
    def _moved(self) -> None:
        self._failure, self._said = None, ""
        self._rows()
        self._look()

    @on(Listing.Taken)
    def _taken(self) -> None:
        profile = self._chosen
        if profile is None or self._session.load is not None:
            return
        to_make = self._shelf.to_make(profile)
        if to_make is not None:
            self._making.make(to_make)
            self._rows()
            return
        now = self._session.profile
        if now is not None and self._shelf.change(now, profile)[0] == "none":
            self.dismiss(None)
            return
        self._failure, self._said = None, ""
        self._asked = profile
        self._planner.leave()
        self._session.switch(profile)
        self._rows()

    def action_close(self) -> None:
        """Esc cancels a load that was asked for here, then closes."""
        if self._asked is not None and self._session.load is not None:
            self._session.stop()
            return
        self.dismiss(None)

"""F2: the profiles, and what choosing each would change and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from textual import events, on
from textual.widget import Widget

from pagewise.app.figures import count
from pagewise.app.progress import draw_progress
from pagewise.app.screens.sheet import Sheet
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, Span, clip, fill, line, wrap
from pagewise.app.visible import visible, visible_line
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.page import Page
from pagewise.messages import ChangeClass, Failure

if TYPE_CHECKING:
    from pagewise.profiles.files import ProfileSet
    from pagewise.settings import Profile

GUIDE = "guide"
QUANTS = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
_COSTS: dict[ChangeClass, str] = {
    "none": "This profile runs now.",
    "live": "Takes effect with the next token; nothing is loaded.",
    "context": "Makes a new context; the weights stay loaded and the conversation is read again.",
    "model": "Loads the weights again; the conversation is kept.",
    "process": "Starts a new engine; the conversation is kept.",
}


def placed(profile: Profile, has_gpu: bool) -> str:
    """Layers on the GPU, as the profile asks for them and the box can give them."""
    layers = profile.n_gpu_layers if has_gpu else 0
    return "all on GPU" if layers == "all" else "CPU" if layers == 0 else f"{layers} on GPU"


def model_name(profile: Profile) -> str:
    """The model in a word: the guide, or the file's name."""
    return profile.model.rsplit("/", 1)[-1].removesuffix(".gguf")


def draw_row(profile: Profile, change: ChangeClass, has_gpu: bool, width: int) -> Line:
    """One line of the table, in columns."""
    quant = profile.quant or ("F16" if profile.model == GUIDE else "as is")
    cells = [(visible_line(profile.name), "text", 18), (visible_line(model_name(profile)), "text", 24)]
    if width >= 60:
        cells.append((quant, "text", 8))
    if width >= 76:
        cells.append((placed(profile, has_gpu), "text", 12))
    if width >= 88:
        cells.append((f"{count(profile.n_ctx) if profile.n_ctx else 'max':>8}", "text", 10))
    cells.append(("now" if change == "none" else change, "accent" if change == "none" else "muted", 8))
    return columns(cells, width)


def draw_head(width: int) -> Line:
    """The names of the columns."""
    cells = [("profile", "muted", 18), ("model", "muted", 24)]
    if width >= 60:
        cells.append(("quant", "muted", 8))
    if width >= 76:
        cells.append(("layers", "muted", 12))
    if width >= 88:
        cells.append((f"{'ctx':>8}", "muted", 10))
    cells.append(("change", "muted", 8))
    return columns(cells, width)


def columns(cells: list[tuple[str, str, int]], width: int) -> Line:
    """Cells of fixed widths; where they do not fit, the second gives way."""
    over = sum(size + 1 for _, _, size in cells) - 1 - width
    spans: list[Span] = []
    for index, (text, role, size) in enumerate(cells):
        room = max(size - max(over, 0), 6) if index == 1 else size
        spans += [(" ", "text")] if index else []
        spans += fill(((text, role),), room, role)
    return clip(spans, width)


class ProfilesScreen(Sheet[None]):
    """Choose a profile; Enter switches, and the sheet stays until the new one is in force."""

    CSS_PATH = ["sheet.tcss", "profiles.tcss"]
    KEYS = [("⏎", "switch"), ("↑↓", "choose"), ("←→", "quant of the guide"), ("Esc", "close")]
    BINDINGS = [("f2", "close", "Close")]

    def __init__(self, session: Session) -> None:
        now = session.profile
        super().__init__("Switch profile", f"now: {visible_line(now.name)}" if now is not None else "")
        self._session = session
        self._profiles: list[Profile] = []
        self._broken: tuple[Failure, ...] = ()
        self._quants: dict[str, str] = {}
        self._failure: tuple[Failure, str | None] | None = None
        self._asked: Profile | None = None
        self._width = 80

    def body(self) -> list[Widget]:
        """The table, and what is true of the chosen row."""
        return [
            Page(lambda width: [clip((("  ", "text"), *draw_head(width - 2)), width)], id="head"),
            Listing("reading the profiles…", id="list"),
            Page(self._detail, id="detail"),
        ]

    def fit(self, room: int) -> None:
        """The table may take half of it, what stands below it the rest."""
        table = max(min(len(self._profiles), room // 2), 1)
        self.query_one("#list").styles.max_height = table
        self.query_one("#detail").styles.max_height = max(room - table - 1, 1)

    def on_mount(self) -> None:
        """Read the files without holding up the screen."""
        super().on_mount()
        self.query_one("#head").can_focus = False
        self.query_one("#detail").can_focus = False
        self.query_one(Listing).focus()
        self.run_worker(self._read, thread=True, group="profiles", exit_on_error=True)

    def _read(self) -> None:
        from pagewise.profiles.files import load_all

        self.app.call_from_thread(self._show, load_all())

    def _show(self, found: ProfileSet) -> None:
        self._broken = found.failures
        self._profiles = list(found.profiles.values())
        now = self._session.profile
        if now is not None and now.name not in found.profiles:
            self._profiles.insert(0, now)
        listing = self.query_one(Listing)
        names = [profile.name for profile in self._profiles]
        if now is not None and now.model == GUIDE:
            self._quants[now.name] = now.quant or "F16"
        listing.chosen = names.index(now.name) if now is not None and now.name in names else 0
        self._fit()
        self._rows()

    def on_resize(self, event: events.Resize) -> None:
        """Columns depend on the width."""
        super().on_resize(event)
        self.call_after_refresh(self._rows)

    def _rows(self) -> None:
        listing = self.query_one(Listing)
        width = listing.content_size.width - 2
        snapshot = self._session.readout.snapshot
        has_gpu = snapshot is None or bool(snapshot.devices.devices)
        listing.show(
            [
                draw_row(profile, self._change(profile)[0], has_gpu, width)
                for profile in map(self._stepped, self._profiles)
            ]
        )
        self.query_one("#detail", Page).repaint()

    def repaint(self) -> None:
        """A load goes on, or is over: then the sheet has done its work."""
        if self._asked is not None and self._session.load is None and self._failure is None:
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

    def _stepped(self, profile: Profile) -> Profile:
        """The profile with the quant that was stepped to."""
        quant = self._quants.get(profile.name)
        if quant is None or profile.model != GUIDE or quant == (profile.quant or "F16"):
            return profile
        return msgspec.structs.replace(profile, quant=None if quant == "F16" else quant)

    def _change(self, profile: Profile) -> tuple[ChangeClass, tuple[str, ...]]:
        from pagewise.profiles.cost import change_class

        now = self._session.profile
        if now is not None and profile.name != now.name:
            change, reasons = change_class(now, profile)
            return ("live" if change == "none" else change), reasons
        return change_class(now, profile)

    @property
    def _chosen(self) -> Profile | None:
        index = self.query_one(Listing).chosen
        return self._stepped(self._profiles[index]) if index < len(self._profiles) else None

    # ---- what stands below the table --------------------------------------------------------------------------------

    def _detail(self, width: int) -> list[Line]:
        lines: list[Line] = [(("─" * width, "faint"),)]
        if self._asked is not None and self._session.load is not None:
            return [*lines, *draw_progress(self._session, width)]
        profile = self._chosen
        if profile is not None:
            lines += self._about(profile, width)
        if self._failure is not None:
            failure, restored = self._failure
            lines += [BLANK, *wrap((("▲ ", "warn"), (visible(failure.what), "strong warn")), width, rest=2)]
            lines += wrap((("  ", "text"), (visible(failure.why), "text")), width, rest=2)
            then = f"{visible_line(restored)} is in force again. " if restored else ""
            lines += wrap((("  → ", "accent"), (then + visible(failure.next), "text")), width, rest=4)
        if self._broken:
            many = len(self._broken) > 1
            lines += [
                BLANK,
                line((f"▲ {len(self._broken)} profile{'s' if many else ''} cannot be used", "strong warn")),
            ]
            for failure in self._broken:
                lines += wrap(
                    (
                        ("  ", "text"),
                        (visible_line(failure.what), "text"),
                        (f": {visible_line(failure.why)} ", "muted"),
                        (visible_line(failure.next), "text"),
                    ),
                    width,
                    rest=2,
                )
        return lines

    def _about(self, profile: Profile, width: int) -> list[Line]:
        change, reasons = self._change(profile)
        lines: list[Line] = []
        if profile.model == GUIDE:
            now = profile.quant or "F16"
            spans: list[Span] = [("quant  ", "muted")]
            for quant in QUANTS:
                spans += [(f"[{quant}]", "strong accent") if quant == now else (f" {quant} ", "muted"), (" ", "text")]
            lines.append(clip((*spans, ("  ← →", "muted")), width))
        if profile.description:
            lines += wrap(((visible(profile.description), "text"),), width)
        lines += wrap(((_COSTS[change], "text"),), width)
        if reasons:
            lines += wrap((("would change  ", "muted"), (visible_line(" · ".join(reasons)), "text")), width, rest=14)
        return lines

    # ---- keys -------------------------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """Left and right step the quant of the guide."""
        if event.key not in ("left", "right"):
            return
        event.stop()
        profile = self._chosen
        if profile is None or profile.model != GUIDE:
            return
        at = QUANTS.index(profile.quant or "F16") if (profile.quant or "F16") in QUANTS else len(QUANTS) - 1
        at = max(0, min(at + (1 if event.key == "right" else -1), len(QUANTS) - 1))
        self._quants[profile.name] = QUANTS[at]
        self._rows()

    @on(Listing.Moved)
    def _moved(self) -> None:
        self._failure = None
        self._rows()

    @on(Listing.Taken)
    def _taken(self) -> None:
        profile = self._chosen
        if profile is None or self._session.load is not None:
            return
        if self._session.profile is not None and self._change(profile)[0] == "none":
            self.dismiss(None)
            return
        self._failure = None
        self._asked = profile
        self._session.switch(profile)
        self._rows()

    def action_close(self) -> None:
        """Esc cancels a load that was asked for here, then closes."""
        if self._asked is not None and self._session.load is not None:
            self._session.stop()
            return
        self.dismiss(None)

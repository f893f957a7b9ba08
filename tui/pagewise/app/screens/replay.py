"""A record in the screens of what was recorded, with a player's line in the prompt's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from pagewise.app.screens.chat import ChatScreen
from pagewise.app.screens.monitor import MonitorScreen
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, Span, clip, indent, line, width_of, wrap
from pagewise.app.visible import visible_line
from pagewise.app.widgets.conversation import Conversation
from pagewise.app.widgets.gauges import FoldedGauges, GaugeColumn
from pagewise.app.widgets.header import Header
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.painted import Painted
from pagewise.app.widgets.prompt import Prompt
from pagewise.app.widgets.rules import Rule, ScrollRule
from pagewise.messages import Monitor
from pagewise.record.player import Player

SCRUB_S = 5.0
LEAP_S = 60.0
_BEAT_S = 0.5
_KEYS: list[Key] = [
    ("Space", "pause"),
    (".", "step"),
    ("+ -", "speed"),
    ("← →", "5 s"),
    ("⇧← ⇧→", "1 min"),
    ("^Q", "quit"),
    ("Home", "start"),
]
_BINDINGS: list[BindingType] = [
    Binding("space", "pause", "Pause", show=False),
    Binding("full_stop", "step", "Step", show=False),
    Binding("plus,equals_sign", "faster(1)", "Faster", show=False),
    Binding("minus", "faster(-1)", "Slower", show=False),
    Binding("left", f"scrub({-SCRUB_S})", "Back", show=False),
    Binding("right", f"scrub({SCRUB_S})", "On", show=False),
    Binding("shift+left", f"scrub({-LEAP_S})", "Far back", show=False),
    Binding("shift+right", f"scrub({LEAP_S})", "Far on", show=False),
    Binding("home", "beginning", "Beginning", show=False),
]
_ENDINGS = {
    "open": "no end mark: the recorder was killed, or still runs",
    "cut": "the record is cut in the middle: played up to the cut",
    "damaged": "the record is damaged from here on",
}
_SHOWN = frozenset({"page_up", "page_down", "follow", "gauges", "next_theme"})
"""What of the chat's actions has a meaning in a record."""
_CHAT_ACTIONS = frozenset(
    binding.action.removeprefix("app.") for binding in ChatScreen.BINDINGS if isinstance(binding, Binding)
) | frozenset({"stop"})


def clock(ms: float) -> str:
    """A place in a record, such as ``1:04`` or ``2:01:04``."""
    seconds = int(ms / 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"


def draw_transport(player: Player, width: int) -> Line:
    """Where in the record one is, how fast it goes, and what is to be said of its end."""
    if player.at_end:
        sign, state = "■", "end"
    elif player.paused:
        sign, state = "‖", "paused"
    else:
        sign, state = "▶", "plays"
    length = clock(player.record.length_ms)
    place = f"{clock(player.position_ms):>{len(length)}}"
    left = line((f"{sign} {state:<6} ", "accent"), (place, "value"), (f" / {length}  ", "muted"))
    right: list[Span] = [(f"  {player.speed:g}×".rjust(7), "text")]
    if player.at_end and player.record.ending in _ENDINGS:
        return clip((*left, (_ENDINGS[player.record.ending], "warn")), width)
    room = width - width_of(left) - width_of(right)
    if room < 4:
        return clip(left, width)
    done = round((room - 1) * player.position_ms / player.record.length_ms) if player.record.length_ms else 0
    return (*left, ("━" * done, "accent"), ("●", "strong accent"), ("─" * (room - 1 - done), "faint"), *right)


def draw_nothing_yet(player: Player, width: int) -> list[Line]:
    """Before the first question: which record this is."""
    header = player.record.header
    name = visible_line(player.record.path.name)
    made_by = f"pagewise {visible_line(header.pagewise)}"
    what = f"{name}: {clock(player.record.length_ms)} of {made_by}, recorded {header.begun}."
    said = "No question was asked yet at this place of the record."
    room = max(min(width - 4, 72), 1)
    lines = [*wrap(((what, "text"),), room), BLANK, *wrap(((said, "muted"),), room)]
    return [BLANK, *indent(lines, ("  ", "text"))]


class Transport(Painted):
    """The player's line."""

    DEFAULT_CSS = """
    Transport { height: 1; padding: 0 1; }
    """

    def __init__(self, player: Player) -> None:
        super().__init__(id="transport")
        self._player = player

    def on_mount(self) -> None:
        """It goes on by itself."""
        self.set_interval(_BEAT_S, self.repaint)

    def paint(self, width: int, height: int) -> list[Line]:
        """The line."""
        return [draw_transport(self._player, width)]


class Playing(Screen[None]):
    """The keys of a player, for a screen that has one."""

    player: Player

    def action_pause(self) -> None:
        """Pause, or go on."""
        self.player.toggle()
        self._moved()

    def action_step(self) -> None:
        """The next message alone."""
        self.player.step()
        self._moved()

    def action_faster(self, steps: int) -> None:
        """Another speed."""
        self.player.faster(steps)
        self._moved()

    def action_scrub(self, seconds: float) -> None:
        """Back or on by so many seconds."""
        self.player.seek(self.player.position_ms + seconds * 1000.0)
        self._moved()

    def action_beginning(self) -> None:
        """Back to the beginning."""
        self.player.seek(0.0)
        self._moved()

    def _moved(self) -> None:
        # The events of the new place come first; the line shows where they led.
        self.call_after_refresh(self.query_one(Transport).repaint)


class ReplayScreen(ChatScreen, Playing):
    """The chat as it was. There is nobody to ask."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*_BINDINGS]

    def __init__(self, session: Session, player: Player, hz: float) -> None:
        super().__init__(session, hz)
        self.player = player

    def compose(self) -> ComposeResult:
        """Header, conversation and gauges, the player's line, keys."""
        yield Header(self.session)
        with Horizontal(id="body"):
            yield Conversation(self.session, self._welcome)
            yield ScrollRule()
            yield GaugeColumn(self.session.readout)
        yield FoldedGauges(self.session.readout)
        yield Rule()
        prompt = Prompt()
        prompt.disabled = True
        prompt.display = False
        yield prompt
        yield Transport(self.player)
        yield Keys(_KEYS)

    def _welcome(self, session: Session, width: int, height: int) -> list[Line]:
        return draw_nothing_yet(self.player, width)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be asked, switched or stopped in what is over."""
        if action in _CHAT_ACTIONS and action not in _SHOWN and action not in ("quit", "suspend_process"):
            return False
        return super().check_action(action, parameters)

    def _keys(self) -> list[Key]:
        return _KEYS

    def _look_outside(self) -> None:
        """What ran then is not changed by a file that changes now."""

    @on(GaugeColumn.Left)
    def _out_of_the_gauges(self) -> None:
        self.set_focus(None)


class MonitorReplayScreen(MonitorScreen, Playing):
    """The monitor as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [*_BINDINGS]

    def __init__(self, ask: Callable[[Monitor], object], wanted: Monitor, player: Player) -> None:
        super().__init__(ask, wanted)
        self.player = player

    def compose(self) -> ComposeResult:
        """The monitor's own parts; between them and the keys the player's line."""
        for part in super().compose():
            if isinstance(part, Keys):
                yield Transport(self.player)
                yield Keys(_KEYS)
            else:
                yield part

"""The program that a person sees: the chat screen, themes, and a clean end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, ClassVar

from textual.app import SystemCommand
from textual.filter import LineFilter
from textual.message import Message

from pagewise.app.actions import ACTIONS
from pagewise.app.announcements import Announcement
from pagewise.app.connection import Client
from pagewise.app.entries import Remark
from pagewise.app.journal import Journal
from pagewise.app.palette import without_colour
from pagewise.app.screens.chat import ChatScreen
from pagewise.app.session import Session
from pagewise.app.themes import TERMINAL, Theme, load_themes
from pagewise.app.widgets.keys import Keys
from pagewise.app.widgets.painted import PaintedApp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rich.segment import Segment
    from textual.color import Color
    from textual.driver import Driver
    from textual.screen import Screen

    from pagewise.history.store import History
    from pagewise.messages import Failure
    from pagewise.settings import Profile

THEME_KEY = "theme"
PROFILE_KEY = "profile"


class WithoutColour(LineFilter):
    """Takes every colour out of what is written: for NO_COLOR."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments with their attributes only."""
        from rich.segment import Segment as NewSegment

        return [
            segment
            if segment.style is None
            else NewSegment(segment.text, without_colour(segment.style), segment.control)
            for segment in segments
        ]


class HistoryFailed(Message):
    """The history says that something is not saved."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class PagewiseApp(PaintedApp):
    """The app. ``run()`` returns when the person quits, the terminal restored and the conversation stored."""

    TITLE = "pagewise"
    CSS_PATH = "screens/chat.tcss"
    CSS: ClassVar[str] = """
    ToastRack { margin: 0; }
    CommandPalette > Vertical { background: $surface; max-width: 90; }
    CommandPalette SearchIcon { display: none; }
    """

    def __init__(
        self,
        profile: Profile,
        client: Client,
        history: History | None = None,
        continue_last: bool = False,
        theme: str | None = None,
        hz: float | None = None,
    ) -> None:
        """``history`` None: the user's own. ``theme`` None: the remembered one. ``hz`` None: 1 over SSH, else 2."""
        self._themes = load_themes()
        super().__init__(driver_class=_driver())
        self._rate = hz if hz is not None else (1.0 if os.environ.get("SSH_CONNECTION") else 2.0)
        self._continue_last = continue_last
        journal = Journal(history, self._history_failed, profile.name)
        self.session = self._new_session(profile, client, journal)
        self._chat = self._new_screen()
        if self.no_color:
            self._filters = [WithoutColour()]
        for known in self._themes.themes.values():
            self.register_theme(known.textual())
        self._apply_theme(self._first_theme(theme))

    def _new_session(self, profile: Profile, client: Client, journal: Journal) -> Session:
        return Session(profile, client, journal, self._announce, self._rate, self._in_force)

    def _new_screen(self) -> ChatScreen:
        return ChatScreen(self.session, self._rate)

    def _announce(self, announcement: Announcement) -> None:
        self._chat.post_message(announcement)

    def _history_failed(self, failure: Failure) -> None:
        self.post_message(HistoryFailed(failure))

    def get_default_screen(self) -> Screen[Any]:
        """The chat."""
        return self._chat

    # ---- life -------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Only after the first frame is anything started."""
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit)
        for failure in self._themes.failures:
            self.session.entries.append(Remark(failure=failure))
        self.run_worker(self.session.run(), group="session", exit_on_error=True)
        if self._continue_last:
            self._open_last()
        self.run_worker(self._prepare, thread=True, group="prepare", exit_on_error=False)

    def _prepare(self) -> None:
        """What the first question would otherwise wait for: the database, and the parser of Markdown."""
        from pagewise.app.markdown import MarkdownLines

        MarkdownLines("*ready*").lines(20)
        _ = self.session.journal.history

    def _open_last(self) -> None:
        from pagewise.history.records import HistoryError

        try:
            last = self.session.journal.last()
            if last is not None:
                self.session.open_conversation(last)
                self._chat.conversation_changed()
        except HistoryError as error:
            self.post_message(HistoryFailed(error.failure))

    async def on_unmount(self) -> None:
        """However it ends: what has arrived is stored, and the host is ended."""
        await self.session.close()

    def on_history_failed(self, event: HistoryFailed) -> None:
        """Say it where the person is looking."""
        self.session.tell(event.failure)

    def action_suspend_process(self) -> None:
        """Back to the shell. No readings meanwhile: nobody takes them off the pipe."""
        self.session.set_rate(0)
        self.set_timer(0.05, self._suspend)

    def _suspend(self) -> None:
        super().action_suspend_process()
        self.session.set_rate(self._rate)

    def action_help_quit(self) -> None:
        """Ctrl+C without a selection: it copies, and does not quit."""
        self._flash("^C copies selected text · ^Q quits · Esc stops a reply")

    # ---- themes -----------------------------------------------------------------------------------------------------

    def _first_theme(self, asked: str | None) -> Theme:
        if asked is None:
            from pagewise.profiles.state import recall

            asked = recall(THEME_KEY)
        if asked is None and self.console.color_system in (None, "standard"):
            asked = TERMINAL
        return self._themes.get(asked)

    def _apply_theme(self, theme: Theme) -> None:
        self._theme = theme
        shown = self._themes.get(TERMINAL) if self.no_color else theme
        self.palette = shown.palette(self.no_color)
        self.theme = f"pagewise-{shown.name}"

    def action_next_theme(self) -> None:
        """The next theme, remembered for the next start."""
        self.choose_theme(self._themes.after(self._theme.name).name)

    def choose_theme(self, name: str) -> None:
        """This theme, remembered for the next start."""
        from pagewise.profiles.state import remember

        self._apply_theme(self._themes.get(name))
        remember(THEME_KEY, self._theme.name)
        note = " (NO_COLOR is set: no colours are shown)" if self.no_color else ""
        self._flash(f"theme {self._theme.name}: {self._theme.description}{note}")

    def _flash(self, text: str) -> None:
        self.screen.query_one(Keys).flash(text)

    # ---- commands ---------------------------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action by its name, and every theme."""
        for action in ACTIONS:
            if action.name and not action.name.endswith("command_palette"):
                yield SystemCommand(f"{action.title}  {action.keys}", action.help, self._runner(action.name))
        for name, theme in self._themes.themes.items():
            yield SystemCommand(f"Theme: {name}", theme.description, lambda name=name: self.choose_theme(name))

    def _runner(self, name: str) -> Any:
        async def run() -> None:
            await self.run_action(name, self if name.startswith("app.") else self._chat)

        return run

    def _in_force(self, profile: Profile) -> None:
        """Remember the profile, where it has a name that can be found again."""
        if profile.source:
            from pagewise.profiles.state import remember

            remember(PROFILE_KEY, profile.name)


def _driver() -> type[Driver] | None:
    """Our own driver where there is a POSIX terminal; otherwise Textual chooses."""
    if os.name != "posix" or "TEXTUAL_DRIVER" in os.environ:
        return None
    from pagewise.app.terminal import TerminalDriver

    return TerminalDriver

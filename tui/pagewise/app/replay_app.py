"""A record as a program: the chat's screen or the monitor's, with a player in the host's place."""

from __future__ import annotations

from pagewise.app.app import PagewiseApp
from pagewise.app.connection import Client
from pagewise.app.journal import Journal
from pagewise.app.monitor_app import MonitorApp
from pagewise.app.replay_session import ReplaySession
from pagewise.app.screens.replay import MonitorReplayScreen, ReplayScreen
from pagewise.history.store import History
from pagewise.messages import Monitor
from pagewise.record.player import Player
from pagewise.settings import Profile


class ReplayApp(PagewiseApp):
    """Shows the record of a chat. It stores nothing and remembers no profile."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, player: Player, theme: str | None = None) -> None:
        """``theme`` None: the remembered one."""
        self._player = player
        super().__init__(Profile(name="replay"), player, History.in_memory(), theme=theme)

    def _new_session(self, profile: Profile, client: Client, journal: Journal) -> ReplaySession:
        return ReplaySession(self._player, journal, self._announce)

    def _new_screen(self) -> ReplayScreen:
        return ReplayScreen(self.session, self._player, self._rate)


class MonitorReplayApp(MonitorApp):
    """Shows the record of a monitor."""

    def __init__(self, player: Player, wanted: Monitor, theme: str | None = None) -> None:
        """``wanted``: what the record was asked for. ``theme`` None: the remembered one."""
        self._player = player
        super().__init__(player, wanted, theme)
        player.rewound = self._monitor.box.forget

    def _new_screen(self, wanted: Monitor) -> MonitorReplayScreen:
        return MonitorReplayScreen(self._client.send, wanted, self._player)

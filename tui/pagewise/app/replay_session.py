"""The session of a replay: what was asked comes out of the record too, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable

from pagewise import messages
from pagewise.app.announcements import Announcement, EntriesChanged, ReadoutChanged, StateChanged
from pagewise.app.entries import Question, Reply
from pagewise.app.journal import Journal
from pagewise.app.readout import Readout
from pagewise.app.session import Session
from pagewise.app.switches import Switches
from pagewise.app.under_way import LoadState, Turn
from pagewise.app.visible import visible_line
from pagewise.record.player import Player
from pagewise.settings import Profile


class ReplaySession(Session):
    """Takes recorded commands beside events. Nobody asks anything here, and no profile is remembered."""

    def __init__(self, player: Player, journal: Journal, post: Callable[[Announcement], object]) -> None:
        self._player = player
        self._tell = post
        super().__init__(Profile(name="replay"), player, journal, self._unless_hurrying)
        player.rewound = self.forget
        player.arrived = self._all_changed

    def handle(self, event: messages.Event | messages.Command) -> None:
        """Take one message of the record."""
        match event:
            case messages.HostHello():
                self.host = event
                self._without_model()
            case messages.Load(id=id, profile=profile):
                self.wanted = profile
                self.load = LoadState(id, profile, switch=self.profile is not None)
                self._post(StateChanged())
            case messages.Generate():
                self._asked(event)
            case messages.Stop(id=id):
                self._stopped(id)
            case messages.Monitor():
                pass
            case _:
                # What else a record holds are events: the recorder keeps no other commands.
                super().handle(event)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Back to the beginning, where nothing has happened yet."""
        self.entries.clear()
        self.profile = self.model = self.load = self.turn = self.host = None
        self.engine = "none"
        Readout.__init__(self.readout)
        self.switches = Switches(self.entries)
        self._all_changed()

    def _unless_hurrying(self, announcement: Announcement) -> None:
        """On the way to another place screens would do nothing but draw what nobody sees."""
        if not self._player.hurrying:
            self._tell(announcement)

    def _all_changed(self) -> None:
        for announcement in (EntriesChanged(), StateChanged(), ReadoutChanged()):
            self._tell(announcement)

    def _asked(self, command: messages.Generate) -> None:
        question = Question(command.messages[-1].text if command.messages else "")
        profile = self.profile or self.wanted
        model = visible_line(self.model.name) if self.model is not None else visible_line(profile.name)
        reply = Reply(profile.name, model)
        self.entries += [question, reply]
        self.turn = Turn(command.id, question, reply, None)
        self.readout.begin_turn(command.id)
        self._post(EntriesChanged())
        self._post(StateChanged())

    def _stopped(self, id: int) -> None:
        if self.turn is not None and self.turn.id == id:
            self.turn.reply.stopping = True
            self.turn.reply.changed()
            self._post(EntriesChanged())
        elif self.load is not None and self.load.id == id:
            self.load.cancelling = True
            self._post(StateChanged())

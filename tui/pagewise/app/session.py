"""The session: questions go out, what happens comes in, and both are kept. It touches no widget and knows no screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter

from pagewise import messages
from pagewise.app.announcements import (
    Announcement,
    BoxSampled,
    EntriesChanged,
    GivenBack,
    ReadoutChanged,
    StateChanged,
    SwitchFailed,
)
from pagewise.app.connection import Client
from pagewise.app.entries import Question, Remark, Reply, chat_messages
from pagewise.app.felt import Felt
from pagewise.app.jobs import AskedJobs
from pagewise.app.journal import Journal
from pagewise.app.profiler.asked import Profiler
from pagewise.app.readout import Readout
from pagewise.app.switches import Switches, switched
from pagewise.app.under_way import LoadState, Turn
from pagewise.app.visible import visible_line
from pagewise.messages import Failure
from pagewise.readings import TurnTiming
from pagewise.settings import Profile

_OF_A_TURN = (messages.Prefill, messages.Tokens, messages.Layers, messages.Finished)
_JUST_SAID = 4
"""Entries back in which a failure counts as said."""


class Session:
    """One person, one host, one conversation at a time."""

    def __init__(
        self,
        profile: Profile,
        client: Client,
        journal: Journal,
        post: Callable[[Announcement], object],
        hz: float = 1.0,
        in_force: Callable[[Profile], object] = lambda profile: None,
    ) -> None:
        self.wanted = profile
        """The profile that was asked for last."""
        self.profile: Profile | None = None
        """The one in force."""
        self.model: messages.ModelInfo | None = None
        self.readout = Readout()
        self.profiler = Profiler(client.send)
        self.jobs = AskedJobs(client.send, self._next_id)
        self.load: LoadState | None = None
        self.turn: Turn | None = None
        self.engine: messages.EngineState = "none"
        self.host: messages.HostHello | None = None
        self.journal = journal
        self.entries = journal.entries
        self.switches = Switches(self.entries)
        self._client = client
        self._post = post
        self._hz = hz
        self._in_force = in_force
        self._ids = 0
        self._queue: deque[Question] = deque()
        self._loaded_id = 0
        self._closing = False
        self._asked_again: Question | None = None

    # ---- what the person does ---------------------------------------------------------------------------------------

    def submit(self, text: str) -> None:
        """Ask a question. While a model loads or another reply is being written it waits, visibly."""
        question = Question(text, waiting=True)
        self.entries.append(question)
        self._queue.append(question)
        if self.model is None and self.load is None and self.host is not None and self.engine != "released":
            self.switch(self.wanted)
        self._go_on()
        self._post(EntriesChanged())

    def stop(self) -> bool:
        """Stop the reply, or else the load. Questions that wait are given back. False if there was nothing to stop."""
        if self.turn is not None:
            if not self.turn.reply.stopping:
                self.turn.reply.stopping = True
                self.turn.reply.changed()
                self._client.send(messages.Stop(self.turn.id))
            self._give_back()
            self._post(EntriesChanged())
            return True
        if self.load is not None:
            if not self.load.cancelling:
                self.load.cancelling = True
                self._client.send(messages.Stop(self.load.id))
            self._post(StateChanged())
            return True
        return False

    def switch(self, profile: Profile) -> None:
        """Make another profile the one in force. The host stops and keeps a reply where it cannot go on under it."""
        self.wanted = profile
        if self.host is None:
            self._post(StateChanged())
            return
        self.load = LoadState(self._next_id(), profile, switch=self.profile is not None)
        self._client.send(messages.Load(self.load.id, profile))
        self._post(StateChanged())

    def back(self) -> bool:
        """Switch to the profile that was in force before this one. False if there is none, or a load is under way."""
        former = self.switches.former
        if former is None or self.load is not None:
            return False
        self.switch(former)
        return True

    def release(self) -> bool:
        """Give the memory of all models back until the next question. False if nothing is held."""
        if self.model is None or self.load is not None or self.engine not in ("ready", "generating"):
            return False
        self._client.send(messages.Release())
        return True

    def dismiss(self) -> bool:
        """Take the line about the last switch away. False if there is none."""
        there = self.switches.dismiss()
        if there:
            self._post(EntriesChanged())
        return there

    def new_conversation(self) -> None:
        """Begin an empty conversation; the present one stays stored."""
        self._leave()
        self.journal.leave()
        self.readout.new_conversation()
        self._post(EntriesChanged())
        self._post(ReadoutChanged())

    def open_conversation(self, conversation: int) -> None:
        """Show an earlier conversation and go on with it. Raises HistoryError; then the present one stays."""
        stored = self.journal.stored(conversation)
        self._leave()
        self.journal.enter(conversation, stored)
        self.readout.new_conversation()
        self._post(EntriesChanged())
        self._post(ReadoutChanged())

    def answer_again(self) -> bool:
        """Ask the last question once more; its former reply stays to be seen. False if that cannot be now."""
        if self.turn is not None or self._queue:
            return False
        question = next((entry for entry in reversed(self.entries) if isinstance(entry, Question)), None)
        if question is None:
            return False
        self._asked_again = question
        question.asked_s = perf_counter()
        self._queue.append(question)
        self._go_on()
        self._post(EntriesChanged())
        return True

    def set_rate(self, hz: float) -> None:
        """How many readings a second the host sends; 0 while nobody can see them."""
        self._hz = hz
        if self.host is not None:
            self._client.send(messages.SetRate(hz))

    def tell(self, failure: Failure) -> None:
        """Say something that belongs to no turn."""
        self._remark(failure)

    def say(self, what: str | Failure | None) -> None:
        """Tell a remark that belongs to no turn, or a failure; nothing to say is passed over."""
        if isinstance(what, Failure):
            self._remark(what)
        elif what:
            self.entries.append(Remark(text=what))
            self._post(EntriesChanged())

    @property
    def busy(self) -> bool:
        """Whether there is something that can be stopped."""
        return self.turn is not None or self.load is not None

    # ---- the host ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the host and take what it says until the session is closed. The client starts one that ends again."""
        from pagewise.client import ClientError

        try:
            await self._client.start()
        except ClientError as error:
            self._no_host(error.failure)
            return
        async for event in self._client.events():
            self.handle(event)
        if not self._closing:
            self._no_host(
                Failure(
                    "There is no host any more.",
                    "It did not stay up; the conversation is stored.",
                    "Run 'pagewise doctor' in another terminal; quit with ctrl+q and start again.",
                )
            )

    async def close(self) -> None:
        """Keep what has arrived, and end the host."""
        if self._closing:
            return
        self._closing = True
        if self.turn is not None:
            self._finish("stopped", None, None)
        await self._client.close()
        self.journal.close()

    def _no_host(self, failure: Failure) -> None:
        self.host = None
        self.load = None
        self.engine = "none"
        if self.turn is not None:
            self._finish("engine lost", None, failure)
        self._remark(failure)
        self._give_back()
        self._without_model()

    def watch(self, command: messages.Monitor) -> None:
        """Sample all models of the box as ``command`` says; each sample is announced."""
        if self.host is not None:
            self._client.send(command)

    # ---- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: messages.Event) -> None:
        """Take one event of the host."""
        revision = self.readout.revision
        if not isinstance(event, _OF_A_TURN) or self._is_current(event.id):
            self.readout.take(event)
            self.profiler.take(event)
        if self.jobs.take(event):
            self._post(StateChanged())
        match event:
            case messages.HostHello():
                self.host, self.switches.kept = event, ()
                self._without_model()
                self._client.send(messages.SetRate(self._hz))
                self.switch(self.wanted)
            case messages.EngineStatus():
                self._engine_state(event)
            case messages.LoadProgress():
                self._load_progress(event)
            case messages.Loaded():
                self._loaded(event)
            case messages.LoadFailed():
                self._load_failed(event)
            case messages.Prefill() if self.turn is not None and self._is_current(event.id):
                self.turn.prefill = event
                self._post(StateChanged())
            case messages.Tokens() if self.turn is not None and event.id == self.turn.id:
                self.turn.reply.take(event.text, event.ids)
                if self.readout.felt is not None and self.turn.reply.shown.strip():
                    self.readout.felt.text_arrived()
                self.journal.append(self.turn.stored, event.text, event.ids)
                self._post(EntriesChanged())
            case messages.Finished() if self.turn is not None and event.id == self.turn.id:
                self._finish(event.reason, event.timing, event.failure)
                self._go_on()
            case messages.EngineLost(failure=failure):
                self._engine_lost(failure)
            case messages.Monitored(sample=sample):
                self._post(BoxSampled(sample))
            case messages.Notice(failure=failure):
                self._remark(failure)
            case _:
                pass
        if self.switches.take(event):
            self._post(EntriesChanged())
        if self.readout.revision != revision:
            self._post(ReadoutChanged())

    def _is_current(self, turn: int) -> bool:
        return self.turn is not None and self.turn.id == turn

    def _engine_state(self, event: messages.EngineStatus) -> None:
        """A load that nobody asked for here is the host's own: it starts the engine again."""
        state, before = event.state, self.engine
        self.engine, self.switches.kept = state, event.kept
        if event.why:
            self.say(f"{visible_line(event.why)}.")
        elif state == "released" and before != "released":
            self.say("The memory is given back; the next message loads the model again.")
        if state in ("starting", "loading") and self.load is None:
            self.load = LoadState(self._loaded_id, self.wanted, switch=False, phase="restart")
        elif state in ("lost", "none") and self.load is not None and self.load.phase == "restart":
            self.load = None
        self._post(StateChanged())

    def _load_progress(self, event: messages.LoadProgress) -> None:
        if self.load is None:
            self.load = LoadState(event.id, self.wanted, switch=False)
        if event.id == self.load.id:
            self.load.phase = event.phase
            self.load.done_bytes = event.done_bytes
            self.load.total_bytes = event.total_bytes
            self._post(StateChanged())

    def _loaded(self, event: messages.Loaded) -> None:
        asked = self.load is not None and self.load.id == event.id and self.load.switch
        if self.load is None or self.load.id == event.id:
            self.load = None
        self._loaded_id = event.id
        self.switches.loaded(event, asked)
        self.profile, self.model = event.profile, event.model
        if asked:
            self.entries.append(Remark(text=switched(event)))
        for note in event.model.notes:
            self.entries.append(Remark(text=visible_line(note)))
        self.journal.profile = event.profile.name
        self._in_force(event.profile)
        self._go_on()
        self._post(EntriesChanged())
        self._post(StateChanged())

    def _load_failed(self, event: messages.LoadFailed) -> None:
        if self.load is None or self.load.id != event.id:
            return
        self.load = None
        if event.cancelled:
            then = f"{visible_line(event.restored)} stays in force." if event.restored else "No model is loaded."
            self.entries.append(Remark(text=f"Load cancelled. {then}"))
        else:
            self._remark(event.failure, event.restored)
            self._post(SwitchFailed(event.failure, event.restored))
        if event.restored is None and not self._still_loaded():
            self._without_model()
        if self.profile is not None:
            self.wanted = self.profile
        if self.model is None:
            self._give_back()
        self._go_on()
        self._post(EntriesChanged())
        self._post(StateChanged())

    def _still_loaded(self) -> bool:
        return self.model is not None and self.engine in ("ready", "generating", "released")

    def _engine_lost(self, failure: Failure) -> None:
        if self.turn is not None:
            self._finish("engine lost", None, failure)
        self._remark(failure)
        self._without_model()

    def _without_model(self) -> None:
        self.model = None
        self.profile = None
        self.readout.model_lost()
        self._post(StateChanged())
        self._post(ReadoutChanged())

    # ---- turns ------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Send the next question that waits, if it can be sent."""
        if self.turn is not None or self.load is not None or self.model is None or not self._queue:
            return
        question = self._queue.popleft()
        profile = self.profile or self.wanted
        again = question is self._asked_again
        self._asked_again = None
        question.waiting = False
        question.changed()
        reply = Reply(profile.name, visible_line(self.model.name), self.model.vocabulary)
        if again:
            self.entries.append(reply)
        else:
            self.entries.insert(self.entries.index(question) + 1, reply)
        stored = self.journal.begin(None if again else question.text, reply)
        self.turn = Turn(self._next_id(), question, reply, stored)
        self.readout.begin_turn(self.turn.id, Felt(question.asked_s, perf_counter()))
        self.switches.asked()
        self._client.send(messages.Generate(self.turn.id, chat_messages(self.entries, question)))
        self._post(StateChanged())
        self._post(EntriesChanged())

    def _finish(self, reason: messages.StopReason, timing: TurnTiming | None, failure: Failure | None) -> None:
        turn = self.turn
        if turn is None:
            return
        turn.reply.end(reason, timing, failure)
        self.journal.finish(turn.stored, reason, timing)
        self.turn = None
        self._post(EntriesChanged())
        self._post(StateChanged())

    def _leave(self) -> None:
        """Before the conversation changes: what is being written is stopped and kept."""
        if self.turn is not None:
            self._client.send(messages.Stop(self.turn.id))
            self._finish("stopped", None, None)
        self._give_back()

    def _give_back(self) -> None:
        """Questions that have not been sent go back to the prompt."""
        waiting = [question for question in self._queue if question is not self._asked_again]
        self._queue.clear()
        self._asked_again = None
        if waiting:
            for question in waiting:
                self.entries.remove(question)
            self._post(GivenBack("\n".join(question.text for question in waiting)))
            self._post(EntriesChanged())

    def _remark(self, failure: Failure, restored: str | None = None) -> None:
        """Say it, unless it has just been said: a host, an engine and a turn that end together give one reason."""
        said = [entry.failure for entry in self.entries[-_JUST_SAID:] if isinstance(entry, Remark | Reply)]
        if failure in said:
            return
        if restored is not None:
            failure = Failure(failure.what, failure.why, f"{visible_line(restored)} is in force again. {failure.next}")
        self.entries.append(Remark(failure=failure))
        self._post(EntriesChanged())

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

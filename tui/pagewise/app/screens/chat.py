"""The chat: conversation, gauges, prompt. It shows the session and passes on what is pressed."""

from __future__ import annotations

from time import perf_counter, thread_time
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from pagewise.app.actions import ACTIONS
from pagewise.app.announcements import BoxSampled, EntriesChanged, GivenBack, ReadoutChanged, StateChanged, SwitchFailed
from pagewise.app.entries import Question
from pagewise.app.pace import seconds_apart
from pagewise.app.profiles.outside import KEY, LOOK_S, OutsideEdits
from pagewise.app.screens.sheet import Sheet
from pagewise.app.session import Session
from pagewise.app.spans import Line
from pagewise.app.visible import visible_line
from pagewise.app.widgets.conversation import Conversation
from pagewise.app.widgets.gauges import FoldedGauges, GaugeColumn
from pagewise.app.widgets.header import Header
from pagewise.app.widgets.keys import Key, Keys
from pagewise.app.widgets.painted import Painted
from pagewise.app.widgets.prompt import Prompt
from pagewise.app.widgets.rules import Rule, ScrollRule

if TYPE_CHECKING:
    from textual.timer import Timer

    from pagewise.app.profiles.making import Making
    from pagewise.jobs.quantize import Quantized
    from pagewise.profiles.files import ProfileSet
    from pagewise.settings import Profile

_KEYS: list[Key] = [
    ("⏎", "send"),
    ("F2", "profiles"),
    ("F3", "gauges"),
    ("^P", "commands"),
    ("F1", "help"),
    ("^J", "new line"),
    ("F4", "conversations"),
    ("F9", "theme"),
    ("^Q", "quit"),
]


class Mark(Painted):
    """The sign before the prompt."""

    def paint(self, width: int, height: int) -> list[Line]:
        """The sign."""
        return [(("›", "strong accent"),)]


class ChatScreen(Screen[None]):
    """The one screen that is always there."""

    AUTO_FOCUS = "#prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (150, "-wider"), (190, "-widest")]
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (13, "-short"), (18, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(action.binding, action.name, action.title, show=False, priority=action.binding != "escape")
        for action in ACTIONS
        if action.binding
    ]

    def __init__(self, session: Session, hz: float) -> None:
        super().__init__()
        self.session = session
        self._hz = hz
        self._drawing: Timer | None = None
        self._last_draw = 0.0
        self._draw_cost = 0.0
        self._gauges_stale = False
        self._outside = OutsideEdits()
        self._making: Making | None = None

    def compose(self) -> ComposeResult:
        """Header, conversation and gauges, prompt, keys."""
        yield Header(self.session)
        with Horizontal(id="body"):
            yield Conversation(self.session)
            yield ScrollRule()
            yield GaugeColumn(self.session.readout)
        yield FoldedGauges(self.session.readout)
        yield Rule()
        with Horizontal(id="ask"):
            yield Mark(id="mark")
            yield Prompt()
        yield Keys(_KEYS)

    def on_mount(self) -> None:
        """The prompt is ready at once, and the gauges have a beat."""
        prompt = self.query_one(Prompt)
        prompt.placeholder = "Ask anything"
        prompt.focus()
        self.set_interval(1 / self._hz, self._draw_gauges)
        self.set_interval(LOOK_S, self._look_outside)

    def on_resize(self, event: events.Resize) -> None:
        """The line above the prompt joins the one beside the gauges."""
        self.call_after_refresh(self._join_rules)

    def on_screen_resume(self) -> None:
        """Back from a sheet: draw what has happened meanwhile."""
        self._draw_all()

    # ---- what the session announces ---------------------------------------------------------------------------------

    @on(EntriesChanged)
    def _entries_changed(self) -> None:
        self._draw_soon()

    @on(StateChanged)
    def _state_changed(self) -> None:
        self._draw_soon()

    @on(ReadoutChanged)
    def _readout_changed(self) -> None:
        self._gauges_stale = True

    @on(GivenBack)
    def _given_back(self, event: GivenBack) -> None:
        self.query_one(Prompt).give(event.text)

    @on(SwitchFailed)
    def _switch_failed(self, event: SwitchFailed) -> None:
        from pagewise.app.screens.profiles import ProfilesScreen

        top = self.app.screen
        if isinstance(top, ProfilesScreen):
            top.failed(event.failure, event.restored)

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def _draw_soon(self) -> None:
        """At most so often, and less often where drawing is slow, so that typing never waits."""
        felt = self.session.readout.felt
        # The first words of a reply are what one waits for: they are drawn at once.
        first = felt is not None and felt.is_awaited
        if self._drawing is not None:
            if not first:
                return
            self._drawing.stop()
        now = perf_counter()
        snapshot = self.session.readout.snapshot
        apart = seconds_apart(self._draw_cost, snapshot.memory.cpu_pct if snapshot is not None else None)
        wait = 0.0 if first else apart - (now - self._last_draw)
        if wait <= 0:
            self._draw_conversation()
        else:
            # A timer that is due before it has begun is never called.
            self._drawing = self.set_timer(max(wait, 0.01), self._draw_conversation)

    def _draw_conversation(self) -> None:
        self._drawing = None
        felt = self.session.readout.felt
        if felt is not None and felt.is_awaited:
            felt.is_being_drawn = True
            if self.app.screen is self and self.query_one(Conversation).following:
                self.call_after_refresh(felt.drawn)
        if self.app.screen is not self:
            self._repaint_sheet()
            return
        started = thread_time()
        self.query_one(Header).repaint()
        self.query_one(Conversation).repaint()
        self.query_one(Keys).show(self._keys())
        self._last_draw = perf_counter()
        self._draw_cost = thread_time() - started

    def _draw_gauges(self) -> None:
        if not self._gauges_stale:
            return
        self._gauges_stale = False
        if self.app.screen is not self:
            self._repaint_sheet()
            return
        self.query_one(FoldedGauges if self.has_class("-narrow") else GaugeColumn).repaint()

    def _repaint_sheet(self) -> None:
        """What lies over the chat shows the session too."""
        if isinstance(self.app.screen, Sheet):
            self.app.screen.repaint()

    def _draw_all(self) -> None:
        self._gauges_stale = True
        self._draw_conversation()
        self._draw_gauges()

    def _keys(self) -> list[Key]:
        offered = self._outside.offered
        if offered is not None and self.session.turn is None and self.session.load is None:
            return [_KEYS[0], (KEY, f"take {visible_line(offered.name)}"), *_KEYS[1:]]
        if self.session.turn is not None:
            return [("Esc", "stop"), *_KEYS[1:]]
        if self.session.load is not None:
            return [_KEYS[0], ("Esc", "cancel the load"), *_KEYS[1:]]
        former = self.session.switches.former
        if former is not None and self.session.switches.has_outcome:
            return [_KEYS[0], ("^G", f"back to {visible_line(former.name)}"), ("Esc", "dismiss"), *_KEYS[1:]]
        return _KEYS

    def _join_rules(self) -> None:
        rule = self.query_one(ScrollRule)
        self.query_one(Rule).show(rule.region.x if rule.display else None)

    @on(Conversation.Scrolled)
    def _scrolled(self, event: Conversation.Scrolled) -> None:
        self.query_one(ScrollRule).show(event.top, event.shown, event.total)

    # ---- what the person does ---------------------------------------------------------------------------------------

    @on(Prompt.Submitted)
    def _submitted(self, event: Prompt.Submitted) -> None:
        self.session.submit(event.text)
        self.query_one(Conversation).follow()

    @on(GaugeColumn.Explain)
    def _explain(self, event: GaugeColumn.Explain) -> None:
        from pagewise.app.screens.explain import ExplainScreen

        self.app.push_screen(ExplainScreen(event.gauge, self.session.readout))

    @on(GaugeColumn.Details)
    def action_details(self) -> None:
        """All that is known of the last reply."""
        from pagewise.app.screens.details import DetailsScreen

        self.app.push_screen(DetailsScreen(self.session.readout))

    @on(GaugeColumn.Curve)
    def action_curve(self) -> None:
        """What memory does to the decode rate."""
        from pagewise.app.screens.curve import CurveScreen

        self.app.push_screen(CurveScreen(self.session.readout))

    def action_tune(self) -> None:
        """Look for better settings in the engine that runs; what is found can be used or saved."""
        from pagewise.app.screens.tune import TuneScreen
        from pagewise.app.tuning.asked import saver, tune_of
        from pagewise.app.tuning.telling import told

        session = self.session
        if session.load is not None:
            self._flash("A load is under way: tune when it is over.")
            return
        if session.profile is None or session.model is None or session.engine == "released":
            released = session.engine == "released"
            self._flash(
                "The memory is given back: the next message loads the model, then F6 tunes it."
                if released
                else "There is no model to tune: F2 chooses a profile."
            )
            return
        make = tune_of(session.profile)
        screen = TuneScreen(
            session.jobs, session.jobs.tell, make, saver(self.app), model=session.profile.name, may_use=True
        )

        def use(found: Profile | None) -> None:
            if screen.tuning is not None:
                session.say(told(screen.tuning, found is not None, screen.saved))
            if found is not None:
                session.switch(found)

        self.app.push_screen(screen, use)

    def action_operators(self) -> None:
        """Profile the next token."""
        from pagewise.app.screens.operators import OperatorsScreen

        self.app.push_screen(OperatorsScreen(self.session.profiler, self._writes))

    def action_flame(self) -> None:
        """Record stacks."""
        from pagewise.app.screens.flame import FlameScreen

        self.app.push_screen(FlameScreen(self.session.profiler, self._writes))

    def _writes(self) -> bool:
        return self.session.turn is not None

    @on(GaugeColumn.Left)
    def _gauges_left(self) -> None:
        self.query_one(Prompt).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """End belongs to the prompt unless one has scrolled back."""
        if action == "follow":
            return not self.query_one(Conversation).following
        return True

    def action_stop(self) -> None:
        """Stop the reply, or cancel the load; where there is neither, take the line about the last switch away."""
        if not self.session.stop():
            self.session.dismiss()

    def action_back(self) -> None:
        """Back to the former profile."""
        if not self.session.back():
            loads = self.session.load is not None
            self._flash(
                "A load is under way: Esc cancels it." if loads else "There is no former profile to go back to."
            )

    def action_release(self) -> None:
        """Give the memory back."""
        if not self.session.release():
            released = self.session.engine == "released"
            self._flash("The memory is given back already." if released else "No model is held now.")

    def _flash(self, text: str) -> None:
        self.query_one(Keys).flash(text)

    def action_answer_again(self) -> None:
        """Ask the last question once more."""
        if self.session.answer_again():
            self.query_one(Conversation).follow()

    def action_new_conversation(self) -> None:
        """Begin an empty one."""
        self.session.new_conversation()
        self.conversation_changed()

    def conversation_changed(self) -> None:
        """Another conversation is shown."""
        self.query_one(Prompt).remember([entry.text for entry in self.session.entries if isinstance(entry, Question)])
        self.query_one(Conversation).restart()

    def action_page_up(self) -> None:
        """Scroll back."""
        self.query_one(Conversation).scroll_pages(-1)

    def action_page_down(self) -> None:
        """Scroll on."""
        self.query_one(Conversation).scroll_pages(1)

    def action_follow(self) -> None:
        """Back to the end."""
        self.query_one(Conversation).follow()

    def action_gauges(self) -> None:
        """Into the column, or open it where there is no room beside the chat."""
        if self.has_class("-narrow"):
            from pagewise.app.screens.gauges import GaugesScreen

            self.app.push_screen(GaugesScreen(self.session.readout))
        else:
            self.query_one(GaugeColumn).focus()

    def action_help(self) -> None:
        """All keys."""
        from pagewise.app.screens.help import HelpScreen

        self.app.push_screen(HelpScreen())

    def action_profiles(self) -> None:
        """The list of profiles."""
        from pagewise.app.profiles.making import Making
        from pagewise.app.screens.profiles import ProfilesScreen

        self._making = self._making or Making(self.session.jobs, self._level_made)
        self.app.push_screen(ProfilesScreen(self.session, self._making))

    def _level_made(self, made: Quantized) -> None:
        from pagewise.app.screens.profiles import ProfilesScreen

        self.session.say(f"{visible_line(made.level)} is made: {visible_line(made.path)}")
        if isinstance(self.app.screen, ProfilesScreen):
            self.app.screen.level_made(made)

    def _look_outside(self) -> None:
        self.run_worker(self._read_outside, thread=True, exclusive=True, group="outside", exit_on_error=True)

    def _read_outside(self) -> None:
        found = self._outside.look()
        if found is not None:
            self.app.call_from_thread(self._profiles_changed, found)

    def _profiles_changed(self, found: ProfileSet) -> None:
        from pagewise.app.screens.profiles import ProfilesScreen

        self.session.say(self._outside.compare(found, self.session.profile))
        if isinstance(self.app.screen, ProfilesScreen):
            self.app.screen.read()

    def action_take_profile(self) -> None:
        """The profile in force as its file is now."""
        profile = self._outside.take()
        if profile is None:
            self.query_one(Keys).flash("No profile was changed on disk.")
        else:
            self.session.switch(profile)

    def action_conversations(self) -> None:
        """The list of conversations."""
        from pagewise.app.screens.conversations import ConversationsScreen

        self.app.push_screen(ConversationsScreen(self.session), self._conversation_chosen)

    def _conversation_chosen(self, changed: bool | None) -> None:
        if changed:
            self.conversation_changed()

    def action_monitor(self) -> None:
        """Every process of the box that holds a model, ours in focus."""
        from pagewise.app.screens.monitor import MonitorScreen
        from pagewise.messages import Monitor

        snapshot = self.session.readout.snapshot
        ours = snapshot.engine_pid if snapshot is not None else None
        self.app.push_screen(MonitorScreen(self.session.watch, Monitor(0.5), ours, self.session.profiler))

    @on(BoxSampled)
    def _box_sampled(self, event: BoxSampled) -> None:
        from pagewise.app.screens.monitor import MonitorScreen

        top = self.app.screen
        if isinstance(top, MonitorScreen):
            top.show(event.sample)

    def action_open_model(self) -> None:
        """Open a GGUF file."""
        from pagewise.app.screens.open_model import OpenModelScreen

        self.app.push_screen(OpenModelScreen(self.session), self._model_chosen)

    def _model_chosen(self, profile: Profile | None) -> None:
        if profile is not None:
            self.session.switch(profile)

    async def action_next_theme(self) -> None:
        """Another theme."""
        await self.app.run_action("next_theme")

"""Which profile is in force: changes as transactions, and the way back after a loss."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from pagewise.host.changer import CANCELLED, Change, Changer
from pagewise.host.kept import Kept, KeptModel
from pagewise.host.outlet import Outlet
from pagewise.host.slot import EngineDied, EngineSlot, LoadRefused, lost_failure
from pagewise.host.supervise import Engine
from pagewise.host.turns import Turns
from pagewise.messages import (
    ChangeClass,
    EngineLost,
    EngineState,
    Failure,
    Load,
    Loaded,
    LoadFailed,
    ModelInfo,
    Notice,
)
from pagewise.profiles.cost import change_class
from pagewise.settings import Profile

_RESTARTS_IN_A_ROW = 2
_STEADY_S = 60.0
_NO_MODEL = Failure("There is no model to answer", "No profile is in force.", "Choose a profile (F2) or open a file.")


class Loads:
    """Brings profiles in force, one change after the other. ``on_loaded`` is told of each model the engine holds."""

    def __init__(
        self,
        slot: EngineSlot,
        changer: Changer,
        outlet: Outlet,
        turns: Turns,
        on_loaded: Callable[[ModelInfo], None],
        on_fault: Callable[[], None],
    ) -> None:
        self.lost_any = False
        """Whether an engine has ended by itself."""
        self._slot = slot
        self._changer = changer
        self._outlet = outlet
        self._turns = turns
        self._on_loaded = on_loaded
        self._on_fault = on_fault
        self._in_force: Load | None = None
        """The last load that worked. Its profile is loaded again after a loss and after a release."""
        self._asked: list[Change] = []
        """Loads whose turn has not come."""
        self._change: Change | None = None
        """The load in hand."""
        self._last: asyncio.Task[None] | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._borrowers: list[Callable[[], None]] = []
        """Tell those who have borrowed the engine, or wait for it, that it is wanted."""
        self._losses = 0
        self._ready_at = 0.0
        slot.on_parked_lost = self.on_parked_lost

    @property
    def busy(self) -> bool:
        """Whether a change is under way or waits."""
        return bool(self._jobs)

    @property
    def has_load_in_hand(self) -> bool:
        """Whether the engine is at a load that can be cancelled."""
        return self._change is not None and not self._changer.waits_for_devices

    @property
    def in_force(self) -> Profile | None:
        """The profile whose model the engine holds."""
        return self._in_force.profile if self._in_force is not None and self._turns.model is not None else None

    @property
    def kept(self) -> Kept:
        """What is held beside it."""
        return self._changer.kept

    def begin(self, wanted: Load) -> None:
        """Bring ``wanted`` in force; loads that are under way give way to it, and a reply too unless it can go on."""
        self._losses = 0
        self._tell_borrowers()
        for former in (*self._asked, self._change):
            if former is not None:
                former.replaced = True
                self._cancel(former)
        if self._class_of(wanted) not in ("none", "live"):
            self._turns.ask_to_stop()
        change = Change(wanted.id)
        self._asked.append(change)
        self._queue(self._switch(wanted, change))

    def release(self, why: str = "") -> None:
        """Let go of model and engine; the next question brings them back. ``why``, if the person did not ask for it.

        Asked for, models that are kept go as well.
        """
        self._tell_borrowers()
        self._queue(self._release(why))

    def let_go(self, kept: KeptModel, why: str) -> None:
        """Hold this one no longer."""
        self._queue(self._let_go(kept, why))

    def stop(self, id: int) -> None:
        """Cancel load ``id``."""
        for change in (*self._asked, self._change):
            if change is not None and change.id == id:
                self._cancel(change)

    def engine_for_turn(self) -> Engine | None:
        """The engine if it can take a turn now. If there is none, one is brought up or what waits is refused."""
        if self._jobs:
            self._tell_borrowers()
            return None
        if self._slot.engine is not None and self._turns.model is not None:
            return self._slot.engine
        if self._in_force is None:
            self._turns.refuse_waiting(_NO_MODEL)
        else:
            self._queue(self._recover())
        return None

    @asynccontextmanager
    async def lend(self, on_wanted: Callable[[], None]) -> AsyncIterator[Profile | None]:
        """The engine for work that is neither turn nor load: both wait until the block is left.

        Yields the profile in force. ``on_wanted`` is called once somebody waits.
        """
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def hold() -> None:
            await self._turns.settled()
            if not given.done():
                given.set_result(None)
            await over.wait()

        self._queue(hold())
        self._borrowers.append(on_wanted)
        has_it = False
        try:
            await given
            has_it = self._slot.is_lent = True
            yield self.in_force
        finally:
            self._borrowers.remove(on_wanted)
            if has_it:
                self._slot.is_lent = False
                if self._slot.engine is None and self._turns.model is not None and self._slot.death is not None:
                    # It ended over a load of the borrower's, of which on_lost is not told.
                    self._lost(self._slot.death)
            over.set()

    def _tell_borrowers(self) -> None:
        for tell in self._borrowers:
            tell()

    def on_turn_finished(self) -> None:
        """A turn has come to its end: the engine is not one that ends each time it is used."""
        self._losses = 0

    def on_lost(self, engine: Engine) -> None:
        """The engine has ended by itself, outside of a load."""
        doing = "while it wrote a reply" if self._turns.now else "while it had nothing to do"
        if self._slot.is_lent:
            doing = "while it measured"
        self._lost(EngineDied(lost_failure(engine, doing), engine.end))

    def _lost(self, death: EngineDied) -> None:
        self._turns.model = None
        self._turns.lose(death.failure)
        if time.monotonic() - self._ready_at > _STEADY_S:
            self._losses = 0
        if self._change is not None:
            # The change under way starts another engine, or fails and says so.
            self._tell_loss(death)
        elif not self._stays_down(death) and self._in_force is not None:
            self._queue(self._recover())

    def on_parked_lost(self, engine: Engine) -> None:
        """An engine that was held beside the one in force has ended by itself."""
        kept = self._changer.kept.of(engine)
        if kept is not None:
            self._changer.kept.remove(kept)
            why = lost_failure(engine, "while it was held beside the model in force").why
            self._tell_kept(f"{kept.name} is no longer held: its engine has ended. {why}")

    def close(self) -> None:
        """Drop all that is under way."""
        for job in self._jobs:
            job.cancel()

    # ---- one change after the other ---------------------------------------------------------------------------------

    def _queue(self, work: Coroutine[Any, Any, None]) -> None:
        former = self._last

        async def job() -> None:
            if former is not None:
                await asyncio.wait([former])
            await work

        self._last = task = asyncio.create_task(job())
        self._jobs.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A fault of the host's own: it cannot know what holds any more. The client starts another one.
            traceback.print_exception(error)
            self._on_fault()
        elif not task.cancelled():
            self._turns.proceed()

    def _class_of(self, wanted: Load) -> ChangeClass:
        if self._slot.engine is None:
            return "process"
        if self._in_force is None or self._turns.model is None:
            return "model"
        return change_class(self._in_force.profile, wanted.profile)[0]

    async def _switch(self, wanted: Load, change: Change) -> None:
        started = time.monotonic()
        self._asked.remove(change)
        if change.cancelled:
            holds = self._in_force.profile.name if self._in_force and self._turns.model else None
            self._outlet.send(LoadFailed(wanted.id, CANCELLED, True, None if change.replaced else holds))
            return
        kind = self._class_of(wanted)
        if kind == "none" and self._turns.model is not None:
            self._commit(wanted, Loaded(wanted.id, wanted.profile, self._turns.model, kind, 0.0))
            return
        try:
            if kind == "live":
                loaded = await self._slot.load(wanted.id, wanted.profile, kind)
            else:
                self._change = change
                self._turns.ask_to_stop()
                await self._turns.settled()
                former = self._in_force if self._turns.model is not None else None
                loaded = await self._changer.bring(change, wanted, kind, former)
        except (LoadRefused, EngineDied) as error:
            self._turns.lose(error.failure)
            await self._fall_back(wanted, change, error)
        else:
            self._commit(wanted, msgspec.structs.replace(loaded, total_ms=1000 * (time.monotonic() - started)))
        finally:
            self._change = None

    def _commit(self, wanted: Load, loaded: Loaded) -> None:
        self._in_force = wanted
        self._outlet.send(loaded)
        self._holds(loaded.model, wanted.profile.name)

    def _holds(self, model: ModelInfo, name: str) -> None:
        self._turns.model, self._turns.profile = model, name
        self._ready_at = time.monotonic()
        state: EngineState = "ready" if self._turns.now is None else "generating"
        self._slot.set_state(state, name, self._changer.why_let_go())
        self._on_loaded(model)

    async def _fall_back(self, wanted: Load, change: Change, error: LoadRefused | EngineDied) -> None:
        """The load did not work: put the former profile in force again, and say how that went."""
        failure = CANCELLED if change.cancelled else error.failure
        if change.replaced:
            if not isinstance(error, LoadRefused) or error.kept is None:
                self._turns.model = None
            self._outlet.send(LoadFailed(wanted.id, failure, change.cancelled))
            return
        former = self._in_force if self._turns.model is not None else None
        if former is not None:
            name = former.profile.name
            restored = await self._restored(wanted.id, former, error)
            if restored is not None:
                self._outlet.send(LoadFailed(wanted.id, failure, change.cancelled, name))
                self._holds(restored, name)
                return
            also = f"{failure.next} The former profile, {name}, did not load again either."
            failure = Failure(failure.what, failure.why, also)
        await self._hold_nothing(LoadFailed(wanted.id, failure, change.cancelled))

    async def _restored(self, id: int, former: Load, error: LoadRefused | EngineDied) -> ModelInfo | None:
        if isinstance(error, LoadRefused) and error.kept is not None:
            return self._turns.model
        self._change = change = Change(id)
        try:
            return (await self._changer.replace(change, Load(id, former.profile), "model")).model
        except (LoadRefused, EngineDied):
            return None

    async def _hold_nothing(self, failed: LoadFailed) -> None:
        await self._slot.clear()
        self._turns.model = None
        self._outlet.send(failed)
        self._slot.set_state("none", None)
        self._turns.refuse_waiting(failed.failure)

    async def _recover(self) -> None:
        """Load the profile in force again: after a loss, or because it had been let go of."""
        wanted = self._in_force
        while wanted is not None and (self._slot.engine is None or self._turns.model is None):
            self._change = change = Change(wanted.id)
            started = time.monotonic()
            try:
                loaded = await self._changer.replace(change, wanted, "process")
            except (LoadRefused, EngineDied) as error:
                if change.cancelled or isinstance(error, LoadRefused):
                    failure = CANCELLED if change.cancelled else error.failure
                    await self._hold_nothing(LoadFailed(wanted.id, failure, change.cancelled))
                    return
                if self._stays_down(error):
                    return
            else:
                self._commit(wanted, msgspec.structs.replace(loaded, total_ms=1000 * (time.monotonic() - started)))
            finally:
                self._change = None

    async def _release(self, why: str) -> None:
        if why and self._turns.now is not None:
            # A question came first.
            return
        self._turns.ask_to_stop()
        await self._turns.settled()
        await self._slot.clear()
        if not why:
            await self._changer.drop_all()
        self._turns.model = None
        name = self._in_force.profile.name if self._in_force else None
        self._slot.set_state("released" if self._in_force else "none", name, why)

    async def _let_go(self, kept: KeptModel, why: str) -> None:
        if kept in self._changer.kept.all:
            await self._changer.drop(kept)
            self._tell_kept(why)

    def _tell_kept(self, why: str) -> None:
        """Of the models that are held, something has changed."""
        self._slot.set_state(self._slot.state, self._turns.profile, why)

    def _cancel(self, change: Change) -> None:
        if not change.cancelled:
            change.cancelled = True
            if change is self._change:
                self._slot.abandon(change.id)

    # ---- losses -----------------------------------------------------------------------------------------------------

    def _stays_down(self, death: EngineDied) -> bool:
        """Tell the app of a loss, and decide whether another engine is to be tried."""
        self._tell_loss(death)
        self._losses += 1
        if self._losses <= _RESTARTS_IN_A_ROW:
            return False
        failure = Failure(
            "The engine is not started again",
            f"It ended {self._losses} times in a row. The last time: {death.failure.why}",
            "Choose another profile (F2); sending a message tries this one once more.",
        )
        self._outlet.send(Notice(failure))
        self._turns.refuse_waiting(failure)
        self._losses = 0
        return True

    def _tell_loss(self, death: EngineDied) -> None:
        self.lost_any = True
        end = death.end
        self._slot.set_state("lost", self._in_force.profile.name if self._in_force else None)
        self._outlet.send(
            EngineLost(
                death.failure,
                end.signal if end else None,
                end.exit_code if end else None,
                end.out_of_memory if end else False,
            )
        )

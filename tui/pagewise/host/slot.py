"""The place for one engine: what it holds, and the steps of which a switch is made (start, load, clear)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pagewise.host.engine_exit import EngineExit, explain
from pagewise.host.outlet import Outlet
from pagewise.host.read_progress import ReadProgress
from pagewise.host.sampler import Sampler
from pagewise.host.supervise import Engine, Listeners, start_engine
from pagewise.memory_file import memory_file
from pagewise.messages import (
    CONTROL,
    PROTOCOL,
    STREAM,
    ChangeClass,
    EngineHello,
    EngineState,
    EngineStatus,
    Event,
    Failure,
    Finished,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Stop,
    Unload,
    Unloaded,
)
from pagewise.settings import Profile

_PROGRESS_S = 0.25
_START_S = 120.0
_CANCEL_GRACE_S = 0.3
_NO_ENGINE = Failure("There is no engine", "It ended before it could load anything.", "Choose the profile again (F2).")


class EngineDied(Exception):
    """The engine ended in the middle of what was asked of it; ``failure`` says why, ``end`` how, if it ever ran."""

    def __init__(self, failure: Failure, end: EngineExit | None = None) -> None:
        super().__init__(failure.what)
        self.failure = failure
        self.end = end


class LoadRefused(Exception):
    """The engine said that it cannot load this. ``kept``: the profile that is still in force in it, by name."""

    def __init__(self, failure: Failure, kept: str | None) -> None:
        super().__init__(failure.what)
        self.failure = failure
        self.kept = kept


class EngineSlot:
    """Holds at most one engine; others may be parked beside it. What it says of turns goes to ``on_turn_event``, its
    end between loads to ``on_lost``.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        outlet: Outlet,
        sampler: Sampler,
        on_stream: Callable[[bytes], None],
        on_turn_event: Callable[[Event, bytes], None],
        on_lost: Callable[[Engine], None],
    ) -> None:
        self.engine: Engine | None = None
        self.model: ModelInfo | None = None
        """What the engine holds now; None while it is empty or loads."""
        self.kept: Callable[[], tuple[str, ...]] = tuple
        """The names of the profiles that are held beside it."""
        self.on_parked_lost: Callable[[Engine], None] = lambda engine: None
        self.state: EngineState = "none"
        self.is_lent = False
        """Whether what is loaded into it is no change of profile, and the app is not told of it."""
        self.last_word_at = time.monotonic()
        """When anything was last heard of the engine, or asked of it."""
        self._command = tuple(command)
        self._log = log
        self._outlet = outlet
        self._sampler = sampler
        self._on_stream, self._on_turn_event, self._on_lost = on_stream, on_turn_event, on_lost
        self._kv_file = memory_file()
        self._parked: list[Engine] = []
        self._answer: asyncio.Future[Event] | None = None
        self._death: EngineDied | None = None
        self._has_waiter = False
        self._reading: asyncio.Event | None = None
        """Set once the read progress of the load in hand is no longer to be told."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def death(self) -> EngineDied | None:
        """How the last engine that ended by itself did; None once another load was begun."""
        return self._death

    def set_state(self, state: EngineState, profile: str | None, why: str = "") -> None:
        """Say so to the app where it is news. ``why``: what the person should know of it."""
        self.state = state
        if state in ("none", "released"):
            self._sampler.hear_engine(())
        pid = self.engine.pid if self.engine else None
        self._outlet.send(EngineStatus(state, pid, profile, self.kept(), why))

    async def start(self) -> None:
        """A new engine, up and greeted. Raises EngineDied."""
        with self._in_hand():
            await self._sampler.before_engine()
            answer = self._expect()
            try:
                engine = await start_engine(self._command, self._log, self._listeners(), self._kv_file)
            except OSError as error:
                why = f"The system says: {error}."
                raise EngineDied(Failure("The engine cannot be started", why, "Install pagewise again.")) from error
            if engine.end is None:
                self.engine = engine
            engine.send(Hello())
            self._sampler.look_at(engine.pid, None)
            try:
                hello = await asyncio.wait_for(answer, _START_S)
            except asyncio.TimeoutError:
                answer = self._expect()
                engine.refuse(f"It was not ready within {_START_S:.0f} seconds of its start.")
                hello = await answer
            assert isinstance(hello, EngineHello)
            if hello.protocol != PROTOCOL:
                await self.clear(at_once=True)
                raise EngineDied(
                    Failure(
                        "The engine cannot be used",
                        f"It speaks protocol {hello.protocol}, this host {PROTOCOL}: two versions are mixed.",
                        "Install pagewise again on this machine.",
                    )
                )

    async def load(self, id: int, profile: Profile, change: ChangeClass, *, must_carry: bool = False) -> Loaded:
        """Have the engine load ``profile``. Raises LoadRefused if it says no, EngineDied if it ends over it.

        ``must_carry``: it is to say no where the KV cache could not come along.
        """
        engine = self.engine
        if engine is None:
            raise self._death or EngineDied(_NO_ENGINE)
        with self._in_hand():
            path = model_path(profile)
            former = self.model
            if change in ("model", "process"):
                self.model = None
            answer = self._expect()
            engine.send(Load(id, profile, change, must_carry))
            if change in ("model", "process") and path is not None:
                self._sampler.look_at(engine.pid, path)
                self._reading = asyncio.Event()
                task = asyncio.create_task(self._tell_read_progress(id, path, engine.pid, self._reading))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            try:
                event = await answer
            finally:
                self._stop_read_progress()
            if isinstance(event, LoadFailed):
                self.model = None if event.restored is None else former
                raise LoadRefused(event.failure, event.restored)
            assert isinstance(event, Loaded)
            self.model = event.model
            self._sampler.look_at(engine.pid, Path(event.model.path), event.model.placement)
            return event

    async def unload(self, id: int, profile: Profile) -> None:
        """Have the engine make room for ``profile``. Raises LoadRefused if that cannot be loaded, and EngineDied."""
        engine = self.engine
        if engine is None:
            raise self._death or EngineDied(_NO_ENGINE)
        with self._in_hand():
            answer = self._expect()
            engine.send(Unload(id, profile))
            event = await answer
            if isinstance(event, LoadFailed):
                raise LoadRefused(event.failure, event.restored)
            assert isinstance(event, Unloaded)
            self.model = None

    # ---- engines beside it ------------------------------------------------------------------------------------------

    def park(self) -> Engine:
        """Set the engine aside with all that it holds; the place is free for another."""
        engine, self.engine, self.model = self.engine, None, None
        assert engine is not None
        self._parked.append(engine)
        return engine

    def resume(self, engine: Engine, model: ModelInfo) -> None:
        """Put a parked engine back into the place, which must be free."""
        self._parked.remove(engine)
        self.engine, self.model = engine, model
        self.last_word_at = time.monotonic()
        self._sampler.look_at(engine.pid, Path(model.path), model.placement)

    async def drop(self, engine: Engine) -> None:
        """End a parked engine and wait until it is gone."""
        if engine in self._parked:
            await engine.dismiss()
            self._parked.remove(engine)

    @contextlib.contextmanager
    def _in_hand(self) -> Iterator[None]:
        """While it lasts, the end of the engine is an EngineDied here and nothing for ``on_lost``."""
        self._death = None
        self._has_waiter = True
        try:
            yield
        finally:
            self._has_waiter = False
            self._answer = None
        if self._death is not None:
            raise self._death

    def _listeners(self) -> Listeners:
        return Listeners(self._stream, self._event, self._exited, lambda: self._outlet.flowing, self._outlet.drain)

    async def clear(self, at_once: bool = False) -> None:
        """End the engine, if there is one, and wait until it is gone and its memory with it."""
        engine, self.engine, self.model = self.engine, None, None
        if engine is not None:
            await engine.dismiss(at_once)
            self._sampler.look_at(None, None)

    async def give_up(self, why: str) -> None:
        """End the engine at once because of ``why``, and wait until it is gone: an end by itself, for ``on_lost``."""
        engine = self.engine
        if engine is not None:
            engine.refuse(why)
            await engine.ended()

    async def end(self) -> None:
        """End all engines at once, for good."""
        engines = [*self._parked, *([] if self.engine is None else [self.engine])]
        self.engine, self.model = None, None
        for engine in engines:
            await engine.dismiss(at_once=True)

    def abandon(self, id: int) -> None:
        """Cancel load ``id``: the engine may do it in good order; where it is inside llama.cpp it is ended for it."""
        engine = self.engine
        if engine is not None:
            engine.send(Stop(id))
            answer = self._answer

            def insist() -> None:
                if answer is not None and not answer.done():
                    engine.refuse("The load was cancelled.")

            asyncio.get_running_loop().call_later(_CANCEL_GRACE_S, insist)

    def _expect(self) -> asyncio.Future[Event]:
        self.last_word_at = time.monotonic()
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def _stream(self, payload: bytes) -> None:
        self.last_word_at = time.monotonic()
        self._outlet.forward(STREAM, payload)
        self._on_stream(payload)

    def _event(self, event: Event, payload: bytes) -> None:
        self.last_word_at = time.monotonic()
        if isinstance(event, (Loaded, Finished)) and event.devices:
            self._sampler.hear_engine(event.devices)
        if isinstance(event, (EngineHello, Loaded, LoadFailed, Unloaded)):
            if isinstance(event, EngineHello):
                self._outlet.forward(CONTROL, payload)
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(event)
        elif isinstance(event, LoadProgress):
            self._stop_read_progress()
            if not self.is_lent:
                self._outlet.forward(CONTROL, payload)
        else:
            self._on_turn_event(event, payload)

    def _exited(self, engine: Engine) -> None:
        if engine.dismissed:
            return
        if engine in self._parked:
            self._parked.remove(engine)
            self.on_parked_lost(engine)
            return
        if engine is self.engine:
            self.engine, self.model = None, None
        self._death = EngineDied(lost_failure(engine, "while it loaded"), engine.end)
        if not self._has_waiter:
            self._on_lost(engine)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._death)

    def _stop_read_progress(self) -> None:
        if self._reading is not None:
            self._reading.set()
            self._reading = None

    async def _tell_read_progress(self, id: int, path: Path, pid: int, over: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            progress = await asyncio.to_thread(ReadProgress, pid, path)
            while not over.is_set():
                started = time.monotonic()
                done = await asyncio.to_thread(progress.done_bytes)
                cost = time.monotonic() - started
                if not over.is_set():
                    self._outlet.send(LoadProgress(id, "read", done, progress.total_bytes))
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(over.wait(), max(_PROGRESS_S, 10 * cost))
            progress.close()


def model_path(profile: Profile) -> Path | None:
    """The file that a profile names; None where only the engine knows it: for the guide, and for a quant level."""
    return None if profile.model == "guide" or profile.quant is not None else Path(profile.model).expanduser()


def lost_failure(engine: Engine, doing: str) -> Failure:
    """Why an engine that nobody dismissed is gone."""
    if engine.refused is not None:
        return Failure(
            f"The engine was ended {doing}",
            engine.refused,
            f"If it happens again, its log says more: {engine.log}.",
        )
    assert engine.end is not None
    return explain(engine.end, doing, engine.log)

"""Questions and their replies: one at a time at the engine, the others wait here."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from pagewise.host.judge import Judge
from pagewise.host.outlet import Outlet
from pagewise.host.slot import EngineSlot
from pagewise.host.supervise import Engine
from pagewise.host.turn import Turn
from pagewise.messages import CONTROL, Event, Failure, Finished, Generate, Layers, ModelInfo, Stop, Streamed
from pagewise.readings import Snapshot


class Turns:
    """Begins what waits as soon as ``ask_for_engine`` gives an engine that can take it. ``model`` is what it holds."""

    def __init__(
        self, slot: EngineSlot, outlet: Outlet, judge: Judge, ask_for_engine: Callable[[], Engine | None]
    ) -> None:
        self.now: Turn | None = None
        """The turn that the engine is at."""
        self.model: ModelInfo | None = None
        self.profile: str | None = None
        """The name of the profile in force."""
        self._slot = slot
        self._outlet = outlet
        self._judge = judge
        self._ask_for_engine = ask_for_engine
        self._waiting: deque[Generate] = deque()
        self._none = asyncio.Event()
        self._none.set()

    def submit(self, request: Generate) -> None:
        """Answer this when its turn comes."""
        self._waiting.append(request)
        self.proceed()

    def proceed(self) -> None:
        """Begin what waits, if nothing is in its way."""
        if self.now is not None or not self._waiting:
            return
        engine = self._ask_for_engine()
        if engine is None:
            return
        request = self._waiting.popleft()
        self.now = Turn(request, engine.pid)
        self._none.clear()
        self._slot.last_word_at = time.monotonic()
        engine.send(request)
        self._slot.set_state("generating", self.profile)

    def stop(self, id: int) -> bool:
        """Stop turn ``id``, whether it runs or waits; False if there is none of that id."""
        for request in self._waiting:
            if request.id == id:
                self._waiting.remove(request)
                self._outlet.send(Finished(id, "stopped", None))
                return True
        if self.now is None or self.now.command.id != id:
            return False
        self.ask_to_stop()
        return True

    def ask_to_stop(self) -> None:
        """Have the engine stop what it is writing."""
        engine = self._slot.engine
        if self.now is not None and engine is not None and self.now.stop_asked_at is None:
            self.now.stop_asked_at = time.monotonic()
            engine.send(Stop(self.now.command.id))

    async def settled(self) -> None:
        """Wait until the engine is at no turn."""
        await self._none.wait()

    def lose(self, failure: Failure) -> None:
        """The engine is gone: whatever it was writing ends here."""
        if self.now is not None:
            self._outlet.send(Finished(self.now.command.id, "engine lost", None, failure))
            self._forget(self.now)

    def refuse_waiting(self, failure: Failure) -> None:
        """Nothing that waits can be answered."""
        while self._waiting:
            self._outlet.send(Finished(self._waiting.popleft().id, "failed", None, failure))

    def on_stream(self, payload: bytes) -> None:
        """A frame of the token path has passed."""
        if self.now is not None and self.now.on_stream(payload) and self.model is not None:
            self._judge.on_first_token(self.now, self.model)

    def on_event(self, event: Event, payload: bytes) -> bool:
        """What the engine says besides tokens goes on to the app. Whether it ended the turn."""
        self._outlet.forward(CONTROL, payload)
        if isinstance(event, Streamed):
            self._judge.on_streamed(event.streaming)
        turn = self.now
        if turn is None:
            return False
        turn.answered = True
        if isinstance(event, Layers):
            turn.clocks.append(event.clock)
        if not isinstance(event, Finished) or event.id != turn.command.id:
            return False
        if event.timing is not None and self.model is not None:
            self._judge.on_finished(turn, event.timing, self.model)
        self._forget(turn)
        self._slot.set_state("ready", self.profile)
        return True

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Readings that may belong to a turn."""
        if self.now is not None:
            self.now.on_snapshot(snapshot)

    def _forget(self, turn: Turn) -> None:
        turn.close()
        self.now = None
        self._none.set()

"""What the host does with each command of the app, and what it makes of what engine and instruments say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pagewise import __version__
from pagewise.host.changer import Changer
from pagewise.host.damage import DamageSearch
from pagewise.host.inside import Inside
from pagewise.host.jobs.jobs import Jobs
from pagewise.host.judge import Judge
from pagewise.host.learning import Learning
from pagewise.host.loads import Loads
from pagewise.host.outlet import Outlet
from pagewise.host.profiler import Profiler
from pagewise.host.readings_socket import ReadingsSocket
from pagewise.host.sampler import Sampler
from pagewise.host.slot import EngineSlot
from pagewise.host.supervise import Engine
from pagewise.host.turns import Turns
from pagewise.host.upkeep import PressureGauge, Upkeep
from pagewise.host.watchdog import Limits, Watchdog, Watched
from pagewise.jobs.base import JobAnswer, JobProgress, JobRequest, JobWish
from pagewise.messages import (
    PROTOCOL,
    Command,
    Event,
    Failure,
    Generate,
    Hello,
    HostHello,
    Load,
    ModelInfo,
    Monitor,
    Notice,
    ProfileOperators,
    ProfileStacks,
    Quit,
    Reading,
    Release,
    SetRate,
    Stop,
)
from pagewise.readings import Snapshot

if TYPE_CHECKING:
    from pagewise.monitor.feed import MonitorFeed

DEFAULT_HZ = 2.0
_JOBS_S = 3.0
"""Jobs get so long to end in good order. One that is at a load in the engine may not come to its end before that."""


class Session:
    """One connection's worth of a host. ``handle`` takes commands as they come; ``over`` is set once it is to end."""

    def __init__(
        self,
        outlet: Outlet,
        engine_command: Sequence[str],
        engine_log: Path,
        over: asyncio.Event,
        limits: Limits | None = None,
    ) -> None:
        self._outlet = outlet
        self._over = over
        self._sampler = Sampler(self._on_snapshot, self._on_blind, DEFAULT_HZ)
        self._judge = Judge(outlet, self._sampler)
        self._learning = Learning()
        self._slot = EngineSlot(
            engine_command, engine_log, outlet, self._sampler, self._on_stream, self._on_turn_event, self._on_lost
        )
        self._profiler = Profiler(self._slot, outlet.send)
        self._turns = Turns(self._slot, outlet, self._judge, lambda: self._loads.engine_for_turn())
        self._loads = Loads(
            self._slot,
            Changer(self._slot, outlet, self._sampler),
            outlet,
            self._turns,
            self._on_loaded,
            over.set,
        )
        self._jobs = Jobs(outlet, self._slot, engine_command, engine_log, self._is_idle, self._loads.lend)
        self._inside = Inside(self._slot, self._turns, self._judge, lambda: self._loads.in_force)
        self._readings_socket = ReadingsSocket(self._inside.read)
        self._damage = DamageSearch(lambda failure: outlet.send(Notice(failure)))
        self._monitor: MonitorFeed | None = None
        self._watchdog = Watchdog(self._owed, limits or Limits())
        self._upkeep = Upkeep(self._loads, self._turns, self._slot, PressureGauge(self._sampler.devices))

    @property
    def lost_any(self) -> bool:
        """Whether an engine has ended by itself: its log is then worth keeping."""
        return self._loads.lost_any

    def handle(self, command: Command) -> None:
        """Act on one command of the app; what takes time goes on in the background."""
        match command:
            case Hello(protocol=protocol):
                self._greet(protocol)
            case SetRate(hz=hz):
                self._sampler.set_rate(hz)
            case Load():
                self._loads.begin(command)
            case Generate():
                self._turns.submit(command)
            case Stop(id=id):
                if not self._turns.stop(id) and not self._jobs.stop(id):
                    self._loads.stop(id)
            case Monitor():
                self._watch(command)
            case ProfileStacks() | ProfileOperators():
                self._profiler.handle(command)
            case Release():
                self._loads.release()
            case Quit():
                self._over.set()
            case JobRequest():
                self._jobs.begin(command)
            case JobWish():
                self._jobs.tell(command)

    async def close(self) -> None:
        """End the engine and all that is under way."""
        if self._monitor is not None:
            self._monitor.close()
        self._loads.close()
        await self._readings_socket.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._jobs.close(), _JOBS_S)
        self._watchdog.stop()
        self._upkeep.stop()
        self._judge.close()
        self._learning.close()
        self._sampler.stop()
        await self._profiler.close()
        self._damage.close()
        await self._slot.end()

    def _watch(self, command: Monitor) -> None:
        # Imported here: the first token of a chat must not wait for what only the monitor needs.
        from pagewise.monitor.feed import MonitorFeed

        if self._monitor is None:
            self._monitor = MonitorFeed(self._outlet.send, self._inside.read)
        self._monitor.handle(command)

    def _greet(self, protocol: int) -> None:
        system = f"{platform.system()} {platform.release()} {platform.machine()}"
        self._outlet.send(HostHello(PROTOCOL, __version__, os.getpid(), socket.gethostname(), system))
        if protocol != PROTOCOL:
            failure = Failure(
                "Two versions of pagewise are talking to each other",
                f"The app speaks protocol {protocol}, the host {PROTOCOL} (pagewise {__version__}).",
                "Install the same version on both machines.",
            )
            self._outlet.send(Notice(failure))

    def _on_stream(self, payload: bytes) -> None:
        self._inside.on_stream(payload)
        self._turns.on_stream(payload)

    def _on_turn_event(self, event: Event, payload: bytes) -> None:
        self._inside.on_event(event)
        if isinstance(event, (JobAnswer, JobProgress)):
            self._jobs.hear(event)
        elif self._turns.on_event(event, payload):
            self._loads.on_turn_finished()
            self._turns.proceed()

    def _on_lost(self, engine: Engine) -> None:
        self._damage.after(engine.end)
        self._loads.on_lost(engine)

    def _on_loaded(self, model: ModelInfo) -> None:
        self._judge.on_loaded(model)
        self._inside.on_loaded(model)
        self._readings_socket.open()
        self._learning.on_loaded(model)

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        self._turns.on_snapshot(snapshot)
        self._judge.on_snapshot(snapshot, idle=self._is_idle())
        self._learning.on_snapshot(snapshot)
        if not self._outlet.waiting:
            self._outlet.send(Reading(snapshot))

    def _is_idle(self) -> bool:
        return self._turns.now is None and not self._loads.busy

    def _on_blind(self, error: BaseException) -> None:
        why = f"{type(error).__name__}: {error}"
        self._outlet.send(Notice(Failure("The gauges have stopped", why, "Chat goes on; please report it.")))

    def _owed(self) -> Watched | None:
        engine, turn = self._slot.engine, self._turns.now
        is_owed = turn is not None or self._loads.has_load_in_hand or self._slot.is_lent
        if engine is None or not is_owed:
            return None
        if not self._outlet.flowing:
            # The engine is not being read, because the app does not read: its silence is ours.
            self._slot.last_word_at = time.monotonic()
            return None
        return Watched(
            engine,
            self._slot.last_word_at,
            turn.sent_at if turn and not turn.answered else None,
            turn.stop_asked_at if turn else None,
        )

"""Gives memory back without being asked: of a model that nobody uses, and of one that is kept where memory is short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pagewise.host.gauges import system_instrument
from pagewise.host.loads import Loads
from pagewise.host.room import free_ram
from pagewise.host.slot import EngineSlot
from pagewise.host.turns import Turns
from pagewise.instruments.counters import Counters, Counts, rate
from pagewise.readings import Devices

LOOK_S = 1.0
_DRIVER_S = 3.0
_RAM_SHARE = 0.02
_RAM_LEAST = 256 * 1024 * 1024
_DEVICE_SHARE = 0.02
_STALLED = 0.2
"""Share of the time that programs wait for memory, from which on it counts as short."""
_WINDOW_S = 5.0
_GIB = 1024**3


class Pressure(NamedTuple):
    """What is left. None: not known."""

    ram_free: int | None
    ram_total: int
    device_free: int | None
    device_total: int | None
    stalled: float | None
    """Share of the time for which something waited for memory."""

    @property
    def why(self) -> str:
        """Why a model that is kept is too much, or nothing."""
        if self.ram_free is not None and self.ram_free < max(_RAM_LEAST, _RAM_SHARE * self.ram_total):
            return f"only {max(0, self.ram_free) / _GIB:.1f} GiB of RAM are left"
        if self.stalled is not None and self.stalled > _STALLED:
            return f"programs wait for memory {100 * self.stalled:.0f} % of the time"
        if (
            self.device_free is not None
            and self.device_total is not None
            and self.device_free < _DEVICE_SHARE * self.device_total
        ):
            return f"only {self.device_free / _GIB:.1f} GiB of device memory are left"
        return ""


class PressureGauge:
    """Reads what is left, while something is kept."""

    def __init__(self, devices: Callable[[], Awaitable[Devices]]) -> None:
        self._devices = devices
        self._counters = Counters(None)
        self._before: Counts | None = None
        self._stalled: float | None = None

    def forget(self) -> None:
        """A load is under way: that it waits for memory says nothing."""
        self._before = self._stalled = None

    async def read(self) -> Pressure:
        """What is left now; stalls are those of the last few seconds."""
        now = self._counters.read()
        if self._before is None:
            self._before = now
        elif now.at_s - self._before.at_s >= _WINDOW_S:
            self._stalled = rate(self._before.memory_stall_s, now.memory_stall_s, now.at_s - self._before.at_s)
            self._before = now
        system = system_instrument(None)
        try:
            total = system.sample().total_bytes
        finally:
            system.close()
        try:
            devices = (await asyncio.wait_for(self._devices(), _DRIVER_S)).devices
        except asyncio.TimeoutError:
            devices = ()
        known = [
            (device.total_bytes, device.used_bytes)
            for device in devices
            if device.total_bytes is not None and device.used_bytes is not None
        ]
        totals = [total for total, _ in known]
        return Pressure(
            free_ram(),
            total,
            sum(total - used for total, used in known) if known else None,
            sum(totals) if known else None,
            self._stalled,
        )


class Upkeep:
    """Looks once a second."""

    def __init__(
        self,
        loads: Loads,
        turns: Turns,
        slot: EngineSlot,
        pressure: PressureGauge,
        every_s: float = LOOK_S,
    ) -> None:
        self._loads = loads
        self._turns = turns
        self._slot = slot
        self._pressure = pressure
        self._every_s = every_s
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Look no more."""
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            if self._loads.busy:
                self._pressure.forget()
                continue
            self._look_for_idle(time.monotonic())
            if self._loads.kept:
                await self._look_for_pressure()

    def _look_for_idle(self, now: float) -> None:
        profile = self._loads.in_force
        limit = profile.idle_unload_s if profile is not None else None
        is_idle = self._turns.now is None and self._slot.engine is not None
        if profile is not None and limit is not None and is_idle and now - self._slot.last_word_at >= limit:
            self._loads.release(
                f"{profile.name} was let go of after {profile.idle_unload} without use; the next message loads it again"
            )
        for kept in self._loads.kept.all:
            limit = kept.load.profile.idle_unload_s
            if limit is not None and now - kept.since >= limit:
                self._loads.let_go(kept, f"{kept.name} is no longer held: {kept.load.profile.idle_unload} without use")

    async def _look_for_pressure(self) -> None:
        why = (await self._pressure.read()).why
        if why and self._loads.kept:
            oldest = self._loads.kept.all[0]
            self._loads.let_go(oldest, f"{oldest.name} is no longer held: {why}")

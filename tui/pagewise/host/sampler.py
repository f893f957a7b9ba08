"""Takes snapshots at a steady rate in a thread of its own, so that a slow driver never holds up a token."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pagewise.host.gauges import Gauges
from pagewise.readings import DeviceMemory, Devices, GgmlDevice, LayerPlacement, Snapshot

MAX_HZ = 10.0
_DRIVER_S = 3.0
Value = TypeVar("Value")


class Sampler:
    """Hands each snapshot to ``on_snapshot``. Everything that touches the instruments is done in its one thread.

    ``on_blind`` is told, once, of an error that no instrument expects; there are no snapshots after it.
    """

    def __init__(
        self, on_snapshot: Callable[[Snapshot], None], on_blind: Callable[[BaseException], None], hz: float
    ) -> None:
        self._on_snapshot = on_snapshot
        self._hz = hz
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="instruments")
        self._gauges: Gauges | None = None
        self._rate_changed = asyncio.Event()
        self._on_blind = on_blind
        self._looking: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._sample())
        self._task.add_done_callback(self._ended)

    def set_rate(self, hz: float) -> None:
        """Snapshots a second, up to MAX_HZ; 0 pauses them."""
        self._hz = max(0.0, min(MAX_HZ, hz))
        self._rate_changed.set()

    async def before_engine(self) -> None:
        """Called when no engine is up and one is about to start, which a driver that hangs must not hold up."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._in_thread(lambda: self._instruments().before_engine()), _DRIVER_S)

    def look_at(self, pid: int | None, path: Path | None, placement: Sequence[LayerPlacement] = ()) -> None:
        """What the instruments read from now on."""
        self._start(lambda: self._instruments().look_at(pid, path, placement))

    def hear_engine(self, devices: Sequence[GgmlDevice]) -> None:
        """What the engine says of the accelerators, for those that nothing else tells of."""
        self._start(lambda: self._instruments().hear_engine(devices))

    async def devices(self) -> Devices:
        """The accelerators now."""
        return await self._in_thread(lambda: self._instruments().devices())

    async def energy_j(self, devices: Sequence[DeviceMemory]) -> tuple[float, float] | None:
        """Joules by the counters of ``devices`` together, and when; None where one has none."""
        return await self._in_thread(lambda: self._instruments().energy_j(devices))

    def stop(self) -> None:
        """No more snapshots."""
        self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, work: Callable[[], None]) -> None:
        task = asyncio.create_task(self._in_thread(work))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            traceback.print_exception(error)
            self._on_blind(error)

    def _instruments(self) -> Gauges:
        # Made in the thread: a driver may take its time to answer for the first time.
        if self._gauges is None:
            self._gauges = Gauges()
        return self._gauges

    async def _in_thread(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._rate_changed.clear()
            wait = max(0.0, due - loop.time()) if self._hz > 0 else None
            try:
                await asyncio.wait_for(self._rate_changed.wait(), wait)
                due = loop.time()
                continue
            except asyncio.TimeoutError:
                due = max(due + 1.0 / self._hz, loop.time())
            self._on_snapshot(await self._in_thread(lambda: self._instruments().sample()))

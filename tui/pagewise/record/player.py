"""Plays a record: a handle like the one on a host, and beside it what a player of films has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import cast

from pagewise.messages import Command, Event, Monitored, Prefill, Reading
from pagewise.record.reader import Record

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
_REAL = 2
_BEAT_S = 0.25
_BREATH = 64
"""Entries after which others have their turn, however many are due."""
_HISTORY = 240
"""Samples that gauges look back on: older ones are passed over on the way to another place."""


class Player:
    """Gives the messages of a record when they are due. What it is sent goes nowhere: a record answers nobody.

    Beside the events that a host would have sent it gives the recorded commands (what was asked). A jump back begins
    again from nothing: then ``rewound`` is called, and all that lies before the place follows at once. While that is so
    ``hurrying`` holds; after it ``arrived`` is called.
    """

    def __init__(self, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self.record = record
        self.paused = False
        self.rewound: Callable[[], object] = lambda: None
        self.arrived: Callable[[], object] = lambda: None
        self._clock = clock
        self._speed = _REAL
        self._next = 0
        self._arrive = 0
        self._window = (-1, 0)
        self._since_ms = 0.0
        self._since_s = clock()
        self._stir = asyncio.Event()
        self._closed = False
        self.hurrying = False
        """Whether messages come that are only on the way to another place."""

    # ---- the handle -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """The clock runs from here."""
        self._since_s = self._clock()

    def send(self, command: Command) -> None:
        """Nobody is there to take it."""

    async def events(self) -> AsyncIterator[Event]:
        """Every message as it is due, until ``close``; the end of the record is no end, since one can go back."""
        given = 0
        while not self._closed:
            while self._next < len(self.record) and (self._next < self._arrive or self._due(self._next)):
                index = self._next
                self._next += 1
                if index < self._arrive - 1 and self._passed_over(index):
                    continue
                message = self.record.message(index)
                if message is not None:
                    # Who listens to a host takes no commands; who listens to a player does.
                    yield cast(Event, message)
                given += 1
                if given % _BREATH == 0:
                    await asyncio.sleep(0)
                    if self._closed:
                        return
            if self.hurrying:
                self.hurrying = False
                self.arrived()
            self._stir.clear()
            try:
                await asyncio.wait_for(self._stir.wait(), self._wait_s())
            except asyncio.TimeoutError:
                continue

    async def close(self) -> None:
        """Play no more."""
        self._closed = True
        self._stir.set()

    # ---- the player -------------------------------------------------------------------------------------------------

    @property
    def position_ms(self) -> float:
        """Where in the record one is."""
        if self.paused:
            return self._since_ms
        run = (self._clock() - self._since_s) * 1000.0 * self.speed
        return min(self._since_ms + run, float(self.record.length_ms))

    @property
    def speed(self) -> float:
        """Times the speed at which it happened."""
        return SPEEDS[self._speed]

    @property
    def at_end(self) -> bool:
        """Whether there is nothing left to play."""
        return self._next >= len(self.record)

    def toggle(self) -> None:
        """Pause, or go on; at the end, play from the beginning."""
        if self.at_end and len(self.record):
            self.seek(0.0)
            self._hold(paused=False)
        else:
            self._hold(paused=not self.paused)

    def step(self) -> None:
        """Pause, and take the next message."""
        self._hold(paused=True)
        if not self.at_end:
            self._since_ms = float(self.record.ms(self._next))
            self._arrive = self._next + 1
            self._stir.set()

    def faster(self, steps: int = 1) -> None:
        """Another speed; a negative number: slower."""
        self._hold(paused=self.paused)
        self._speed = max(0, min(self._speed + steps, len(SPEEDS) - 1))
        self._stir.set()

    def seek(self, ms: float) -> None:
        """Go to a place; what is before the beginning or behind the end is the beginning or the end."""
        ms = max(0.0, min(ms, float(self.record.length_ms)))
        back = ms < self.position_ms
        self._hold(paused=self.paused)
        self._since_ms = ms
        if back:
            self._next = 0
            self.rewound()
        self._arrive = self._after(ms)
        self.hurrying = True
        self._stir.set()

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _hold(self, *, paused: bool) -> None:
        """Remember the place, and count from it."""
        self._since_ms = self.position_ms
        self._since_s = self._clock()
        self.paused = paused
        self._stir.set()

    def _due(self, index: int) -> bool:
        return not self.paused and self.record.ms(index) <= self.position_ms

    def _wait_s(self) -> float | None:
        if self.paused or self.at_end:
            return None
        left = (self.record.ms(self._next) - self.position_ms) / 1000.0 / self.speed
        return max(0.0, min(left, _BEAT_S))

    def _passed_over(self, index: int) -> bool:
        """Whether an entry on the way to another place leaves no trace there."""
        record = self.record
        if record.is_kind(index, Prefill):
            return True
        if not (record.is_kind(index, Reading) or record.is_kind(index, Monitored)):
            return False
        return index < self._samples_from()

    def _samples_from(self) -> int:
        """The entry from which on samples count for the place one is going to."""
        if self._window[0] != self._arrive:
            left = _HISTORY
            index = self._arrive
            while index > 0 and left > 0:
                index -= 1
                if self.record.is_kind(index, Reading) or self.record.is_kind(index, Monitored):
                    left -= 1
            self._window = (self._arrive, index)
        return self._window[1]

    def _after(self, ms: float) -> int:
        """How many entries there are up to ``ms``."""
        low, high = 0, len(self.record)
        while low < high:
            middle = (low + high) // 2
            if self.record.ms(middle) <= ms:
                low = middle + 1
            else:
                high = middle
        return low

"""What the devices that hold the model draw in a turn, from its first token to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from pagewise.host.sampler import Sampler
from pagewise.host.work import mean_power_w
from pagewise.readings import DeviceMemory, TurnEnergy

_SHORTEST_S = 0.5
"""Counters move on about ten times a second: over less than this they say little."""
_DRIVER_S = 1.0
_TOO_SHORT = f"the reply took less than {_SHORTEST_S:.1f} s after its first token, too short to tell"


class Metered(NamedTuple):
    """The energy of a turn, or why it is not known."""

    energy: TurnEnergy | None
    why: str = ""


class EnergyMeter:
    """Meters one turn: make it at the first token, and ask for ``result`` at the end."""

    def __init__(self, sampler: Sampler, devices: Sequence[DeviceMemory]) -> None:
        """``devices``: those that hold the model, as they were sampled before."""
        self._sampler = sampler
        self._devices = tuple(devices)
        self._before = asyncio.create_task(self._read())

    async def result(self, n_output: int, seconds: float, seen: Sequence[tuple[DeviceMemory, ...]]) -> Metered:
        """After ``n_output`` tokens. ``seconds`` since the first one; ``seen``: the devices as sampled meanwhile."""
        before, after = await self._before, await self._read()
        tokens = n_output - 1
        if tokens < 1 or seconds < _SHORTEST_S:
            return Metered(None, _TOO_SHORT)
        if before is not None and after is not None and after[0] >= before[0]:
            return Metered(TurnEnergy(after[0] - before[0], after[1] - before[1], tokens, "energy counter"))
        power = mean_power_w(self._devices, seen)
        if power is None:
            return Metered(None, "these devices have no energy counter, and their power was not read meanwhile")
        return Metered(TurnEnergy(power * seconds, seconds, tokens, "power × time"))

    def close(self) -> None:
        """The turn came to nothing."""
        self._before.cancel()

    async def _read(self) -> tuple[float, float] | None:
        # A driver that hangs must not hold up the verdict.
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._sampler.energy_j(self._devices), _DRIVER_S)
        return None

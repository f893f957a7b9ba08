"""Whether the devices have their memory back after a model was let go of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pagewise.messages import ModelInfo
from pagewise.readings import Devices

TOLERANCE = 64 * 1024 * 1024
PATIENCE_S = 5.0
_LOOK_S = 0.05
_DRIVER_S = 3.0
Look = Callable[[], Awaitable[Devices]]


class DeviceWatch(NamedTuple):
    """What the devices held while the model was there, in bytes, all together."""

    look: Look
    ours: int | None
    used: int | None
    due: int
    """What the model's buffers took of it."""

    @classmethod
    async def begin(cls, look: Look, model: ModelInfo | None) -> DeviceWatch | None:
        """Look before ``model`` is let go of; None where it has nothing on a device."""
        due = sum(buffer.bytes for buffer in model.buffers if buffer.device != "CPU") if model is not None else 0
        if not due:
            return None
        ours, used = await _held(look)
        return cls(look, ours, used, due)

    async def given_back(self) -> bool:
        """Wait until all but 64 MiB of it is free again, for 5 seconds at most. True as well where nobody can tell.

        Our own share is looked at where the driver tells it, so that what others take meanwhile does not count.
        """
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while not await self._is_back():
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def _is_back(self) -> bool:
        ours, used = await _held(self.look)
        for before, now in ((self.ours, ours), (self.used, used)):
            if before is not None and now is not None:
                return now <= before - self.due + TOLERANCE
        return True


async def _held(look: Look) -> tuple[int | None, int | None]:
    """(our share, all that is used) of all devices together; None for what is not told, or only estimated."""
    try:
        devices = (await asyncio.wait_for(look(), _DRIVER_S)).devices
    except asyncio.TimeoutError:
        return None, None
    ours = [None if device.ours_is_estimate else device.ours_bytes for device in devices]
    return _sum(ours), _sum([device.used_bytes for device in devices])


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None

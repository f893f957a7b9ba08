"""What a trial tells beside its times: where its layers are, how busy the link to a device was, and whether a failure
would come again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from pagewise.failure import Failure
from pagewise.host.jobs.yardstick import Refused
from pagewise.host.work import busiest_link
from pagewise.jobs.tune import Aim
from pagewise.messages import ModelInfo
from pagewise.readings import DeviceMemory
from pagewise.settings import Profile
from pagewise.tuner.comparison import Meter, Quality, Taken, TrialFailed

_DRIVER = re.compile(r"(?:CUDA|HIP|ROCm|MUSA|SYCL) error|VK_ERROR_DEVICE_LOST|ErrorDeviceLost", re.IGNORECASE)
_LOOK_S = 0.2
Devices = Callable[[], tuple[DeviceMemory, ...]]


class TrialMeter:
    """Around another meter."""

    def __init__(self, meter: Meter, model: Callable[[], ModelInfo | None], devices: Devices | None) -> None:
        """``model``: the one in force. ``devices`` samples them now; None: there are none."""
        self._meter, self._model, self._devices = meter, model, devices

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        """One sample. Raises TrialFailed, which says whether it would fail again."""
        seen: list[tuple[DeviceMemory, ...]] = []
        watch = asyncio.ensure_future(self._watch(self._devices, seen)) if self._devices is not None else None
        try:
            taken = await self._meter.measure(profile, aim, thorough)
        except TrialFailed as error:
            raise judged(error) from error
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.wait([watch])
        model = self._model()
        if model is None:
            return taken
        link = busiest_link(seen[-1], seen) if seen else None
        return taken._replace(
            offloaded_layers=model.offloaded_layers,
            host_bytes=host_bytes(model, profile),
            link_share=link[0] / link[1] if link else None,
        )

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        """As of the other meter."""
        return await self._meter.ruled_out(profile, aim)

    async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
        """As of the other meter."""
        return await self._meter.quality(profile, aim)

    async def _watch(self, devices: Devices, seen: list[tuple[DeviceMemory, ...]]) -> None:
        while True:
            seen.append(await asyncio.to_thread(devices))
            await asyncio.sleep(_LOOK_S)


def judged(error: TrialFailed) -> TrialFailed:
    """The same failure, told as a driver's fault where it is one. What an engine has died of may be over tomorrow;
    what it has refused it would refuse again.
    """
    failure = error.failure
    if _DRIVER.search(f"{failure.what} {failure.why}"):
        what = "The driver of a device failed in this trial"
        told = Failure(what, f"{failure.what}: {failure.why}", "The trial is lost; a later tune tries it again.")
        return TrialFailed(told)
    return TrialFailed(failure, is_lasting=isinstance(error.__cause__, Refused))


def host_bytes(model: ModelInfo, profile: Profile) -> int:
    """Weights that a token reads from RAM. Whole layers are read alike wherever they lie; with overrides what is on
    devices is taken for what every token reads.
    """
    placed = sum(layer.device_bytes for layer in model.placement)
    if profile.tensor_overrides:
        return max(0, model.bytes_per_token - placed)
    there = sum(layer.mapped_bytes + layer.copied_bytes for layer in model.placement)
    return round(model.bytes_per_token * there / (placed + there)) if placed + there else model.bytes_per_token

"""What a trial tells beside its times, and whether a failure would come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pagewise.failure import Failure
from pagewise.host.jobs.trial_meter import TrialMeter, host_bytes
from pagewise.host.jobs.yardstick import Refused
from pagewise.host.slot import EngineDied
from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim
from pagewise.readings import DeviceMemory, LayerPlacement
from pagewise.settings import Profile
from pagewise.tuner.comparison import Taken, TrialFailed

PLAIN = Profile(name="mine")
GPU = DeviceMemory(
    "GPU", 0, "discrete", 1, 1, None, False, None, None, None, None, "NVML",
    pcie_rx_bytes_s=9e9, pcie_tx_bytes_s=18e9, pcie_peak_bytes_s=25e9,
)  # fmt: skip


def model(**changes: Any) -> Any:
    layers = (
        LayerPlacement("0", "CPU", "mapped", 100, 0, 0),
        LayerPlacement("1", "GPU0", "device", 0, 0, 300),
    )
    return SimpleNamespace(**{"placement": layers, "bytes_per_token": 400, "offloaded_layers": 1, **changes})


class Inner:
    """Ends with ``error``, or with a measurement once ``is_done``."""

    def __init__(self, error: Exception | None = None, is_done: Callable[[], bool] = lambda: True) -> None:
        self._error, self._is_done = error, is_done

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        while not self._is_done():  # noqa: ASYNC110 - the devices are looked at in another thread
            await asyncio.sleep(0)
        if self._error is not None:
            raise TrialFailed(Failure("It ended", f"{self._error}", "Again.")) from self._error
        return Taken(Measured(0), 1, 1, 512, True, None, None)


def taken(inner: Inner, devices: Callable[[], tuple[DeviceMemory, ...]] | None = None, known: Any = None) -> Taken:
    meter: Any = inner
    return asyncio.run(TrialMeter(meter, lambda: known or model(), devices).measure(PLAIN, Aim(), False))


def test_where_the_layers_are_is_told() -> None:
    found = taken(Inner())
    assert (found.offloaded_layers, found.host_bytes, found.link_share) == (1, 100, None)


def test_the_busier_direction_of_the_link_is_told_for_the_time_of_the_measurement() -> None:
    seen: list[int] = []

    def devices() -> tuple[DeviceMemory, ...]:
        seen.append(1)
        return (GPU,)

    found = taken(Inner(is_done=lambda: len(seen) > 1), devices)
    assert found.link_share == pytest.approx(18 / 25)
    quiet = msgspec.structs.replace(GPU, pcie_peak_bytes_s=None)
    assert taken(Inner(), lambda: (quiet,)).link_share is None


def failing(error: Exception) -> TrialFailed:
    with pytest.raises(TrialFailed) as told:
        taken(Inner(error), lambda: (GPU,))
    return told.value


def test_what_was_refused_would_be_again_and_what_died_may_not() -> None:
    said = Failure("No room", "The context is too large.", "Less.")
    assert failing(Refused(said)).is_lasting
    assert not failing(EngineDied(said)).is_lasting


@pytest.mark.parametrize("words", ["CUDA error: unspecified launch failure", "vk::Queue::submit: ErrorDeviceLost"])
def test_a_drivers_fault_is_told_as_one_and_never_lasts(words: str) -> None:
    for kind in (EngineDied, Refused):
        error = failing(kind(Failure(words, words, "Again.")))
        assert not error.is_lasting and "driver" in error.failure.what
        assert words in error.failure.why and "later tune" in error.failure.next


def test_with_overrides_what_every_token_reads_is_what_is_on_devices() -> None:
    experts = msgspec.structs.replace(PLAIN, tensor_overrides=("exps=CPU",))
    assert host_bytes(model(bytes_per_token=350), experts) == 50
    assert host_bytes(model(placement=()), PLAIN) == 400

"""Energy of a turn: by the counter where there is one, by power and time where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from pagewise.host.energy import EnergyMeter
from pagewise.host.work import busiest_link, dram_bytes_s, mean_power_w
from pagewise.readings import DeviceMemory

GPU = DeviceMemory("H200", 0, "gpu", 1, 1, 1, False, 97.0, 64.0, 500.0, 61.0, "NVML")
OTHER = replace(GPU, source="sysfs")


class Counters:
    """A sampler whose counters answer from a list, or never."""

    def __init__(self, *answers: tuple[float, float] | None) -> None:
        self.answers = list(answers)

    async def energy_j(self, devices: Sequence[DeviceMemory]) -> tuple[float, float] | None:
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop(0)


def meter(sampler: Counters) -> EnergyMeter:
    return EnergyMeter(sampler, (GPU,))  # type: ignore[arg-type]


async def test_the_counter_is_what_counts() -> None:
    energy, why = await meter(Counters((1000.0, 50.0), (1600.0, 54.0))).result(101, 3.9, [])
    assert energy is not None and not why
    assert (energy.joules, energy.seconds, energy.tokens, energy.source) == (600.0, 4.0, 100, "energy counter")
    assert energy.per_token_j == 6.0


@pytest.mark.parametrize("after", [None, (900.0, 54.0)])
async def test_without_a_counter_or_with_one_that_began_anew_it_is_an_estimate(
    after: tuple[float, float] | None,
) -> None:
    seen = [(replace(GPU, power_w=400.0), replace(OTHER, power_w=9000.0)), (GPU,)]
    energy, _ = await meter(Counters((1000.0, 50.0), after)).result(11, 2.0, seen)
    assert energy is not None and energy.source == "power × time"
    assert (energy.joules, energy.per_token_j) == (900.0, 90.0)


@pytest.mark.parametrize(("n_output", "seconds"), [(1, 4.0), (40, 0.1)])
async def test_too_short_is_not_zero(n_output: int, seconds: float) -> None:
    energy, why = await meter(Counters((1000.0, 50.0), (1000.0, 50.1))).result(n_output, seconds, [(GPU,)])
    assert energy is None and "too short" in why


async def test_nothing_to_go_by() -> None:
    energy, why = await meter(Counters(None, None)).result(100, 4.0, [(replace(GPU, power_w=None),)])
    assert energy is None and "no energy counter" in why


async def test_a_driver_that_hangs_does_not_hold_up_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagewise.host.energy._DRIVER_S", 0.01)
    energy, _ = await meter(Counters()).result(100, 4.0, [(GPU,)])
    assert energy is not None and energy.source == "power × time"


def test_figures_of_several_devices_are_added_and_one_that_is_missing_makes_no_sum() -> None:
    second = replace(GPU, index=1, power_w=300.0)
    seen = [(replace(GPU, dram_bytes_s=2e12), second), (replace(GPU, dram_bytes_s=3e12, power_w=None), second)]
    assert mean_power_w((GPU, second), seen) == 800.0
    assert dram_bytes_s((GPU,), seen) == 2.5e12
    assert dram_bytes_s((GPU, second), seen) is None
    assert dram_bytes_s((), seen) is None


def test_the_busiest_link_in_its_busier_direction() -> None:
    idle = replace(GPU, pcie_rx_bytes_s=0.0, pcie_tx_bytes_s=0.0, pcie_peak_bytes_s=4e9)
    busy = replace(GPU, pcie_rx_bytes_s=20e9, pcie_tx_bytes_s=1e9, pcie_peak_bytes_s=32e9)
    narrow = replace(GPU, index=1, pcie_rx_bytes_s=0.1e9, pcie_tx_bytes_s=3e9, pcie_peak_bytes_s=4e9)
    assert busiest_link((GPU,), [(idle,), (busy,)]) == (10e9, 32e9)
    assert busiest_link((GPU, narrow), [(busy, narrow)]) == (3e9, 4e9)
    assert busiest_link((GPU,), [(GPU,)]) is None

"""When the host measures the RAM's peak."""

from __future__ import annotations

import asyncio

import pytest
from tests.host.talk import PATIENCE_S

from pagewise.host import peaks
from pagewise.host.peaks import Peaks
from pagewise.readings import Devices, Memory, Snapshot
from pagewise.verdict.roofline import known_peak


def snapshot(cpu_pct: float) -> Snapshot:
    memory = Memory(1, 1, None, None, None, None, 0, cpu_pct, None)
    return Snapshot(0.0, None, Devices(()), memory, None, None)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Peaks:
    """Waits for nothing once the machine is idle."""
    monkeypatch.setattr(peaks, "_IDLE_S", 0.0)
    return Peaks()


async def test_it_is_measured_when_there_is_time_and_kept(eager: Peaks) -> None:
    assert eager.ram(1).bytes_per_s is None and "measured when" in eager.ram(1).why
    eager.want(1)
    eager.on_snapshot(snapshot(5.0), idle=True)
    task = eager._measuring
    assert task is not None
    await asyncio.wait_for(task, PATIENCE_S)
    peak = eager.ram(1).bytes_per_s
    assert peak is not None and peak == known_peak(1)
    eager.on_snapshot(snapshot(5.0), idle=True)
    assert eager._measuring is None


@pytest.mark.parametrize(("cpu_pct", "idle"), [(5.0, False), (60.0, True)])
async def test_it_is_not_measured_while_there_is_work(eager: Peaks, cpu_pct: float, idle: bool) -> None:
    eager.want(1)
    eager.on_snapshot(snapshot(cpu_pct), idle=idle)
    assert eager._measuring is None


async def test_work_that_comes_in_ends_the_measuring(eager: Peaks) -> None:
    eager.want(1)
    eager.on_snapshot(snapshot(5.0), idle=True)
    task = eager._measuring
    assert task is not None
    eager.on_snapshot(snapshot(100.0), idle=False)
    await asyncio.wait([task])
    assert eager.ram(1).bytes_per_s is None


async def test_a_peak_that_was_surpassed_is_measured_again(eager: Peaks) -> None:
    from pagewise.verdict.roofline import keep_peak

    keep_peak(1, 10e9)
    assert eager.ram(1).bytes_per_s == 10e9
    eager.surpassed(1, 10.5e9)
    assert eager.ram(1).bytes_per_s == 10e9
    eager.surpassed(1, 12e9)
    assert eager.ram(1).bytes_per_s is None

"""Gathers the evidence of a turn and sends the verdict on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pagewise.host.energy import EnergyMeter
from pagewise.host.outlet import Outlet
from pagewise.host.peaks import Peaks
from pagewise.host.sampler import Sampler
from pagewise.host.turn import Turn
from pagewise.host.work import busiest_link, dram_bytes_s, holding
from pagewise.instruments.counters import Counts, disk_under, rate
from pagewise.instruments.system import physical_cores
from pagewise.messages import Judged, ModelInfo
from pagewise.readings import DeviceMemory, Snapshot, Streaming, TurnTiming, Verdict
from pagewise.verdict.disk_peak import known_disk_peak
from pagewise.verdict.evidence import Evidence
from pagewise.verdict.rules import judge
from pagewise.verdict.tiers import Peak, tiers

_NO_DEVICE = "no device holds a part of the model"
_NO_PEAK = "the device does not tell its memory's clock and width"
_SHORTEST_S = 0.2
"""CPU time is counted in hundredths of a second: over less than this it says nothing."""


class Judge:
    """Sends Judged for each turn it is told of."""

    def __init__(self, outlet: Outlet, sampler: Sampler) -> None:
        self._outlet = outlet
        self._sampler = sampler
        self._peaks = Peaks()
        self._available: int | None = None
        self._devices: tuple[DeviceMemory, ...] = ()
        """As they were seen last."""
        self._disk_peak: float | None = None
        self.latest: Verdict | None = None
        """On the last turn since the load."""
        self._streaming: Streaming | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """End what is being measured."""
        self._peaks.stop()

    def on_loaded(self, model: ModelInfo) -> None:
        """A model is in force: its thread count says which peak will be asked for."""
        self.latest = None
        self._disk_peak = _disk_peak(Path(model.path))
        self._streaming = None
        self._peaks.want(model.threads)
        self._start(self._ask_devices())

    def on_snapshot(self, snapshot: Snapshot, idle: bool) -> None:
        """The latest readings; ``idle``: neither turn nor load is under way."""
        self._devices = snapshot.devices.devices
        self._available = snapshot.memory.available_bytes
        if snapshot.memory.limit_bytes is not None:
            self._available = min(self._available, snapshot.memory.limit_bytes)
        self._peaks.on_snapshot(snapshot, idle)

    def on_first_token(self, turn: Turn, model: ModelInfo) -> None:
        """A turn begins to answer: from here on its energy counts."""
        ours = holding(self._devices, model)
        if ours:
            turn.energy = EnergyMeter(self._sampler, ours)

    def on_streamed(self, streaming: Streaming) -> None:
        """What the engine says of weights that it streams."""
        self._streaming = streaming

    def on_finished(self, turn: Turn, timing: TurnTiming, model: ModelInfo) -> None:
        """Judge a turn that has just ended."""
        found = self.evidence(turn, timing, model)
        for tier in found.tiers:
            if tier.kind == "RAM":
                self._peaks.surpassed(model.threads, tier.bytes_per_s)
        self.latest = verdict = judge(found)
        meter, turn.energy = turn.energy, None
        if meter is None:
            self._outlet.send(Judged(turn.command.id, verdict, None, _NO_DEVICE))
        else:
            self._start(self._send_with_energy(turn, timing, verdict, meter))

    async def _send_with_energy(self, turn: Turn, timing: TurnTiming, verdict: Verdict, meter: EnergyMeter) -> None:
        seconds = (timing.tpot_ms or 0.0) * (timing.n_output - 1) / 1000.0
        metered = await meter.result(timing.n_output, seconds, turn.devices)
        self._outlet.send(Judged(turn.command.id, verdict, metered.energy, metered.why))

    def evidence(self, turn: Turn, timing: TurnTiming, model: ModelInfo) -> Evidence:
        """What is known of a turn."""
        before, after = turn.before, turn.counts()
        seconds = after.at_s - before.at_s if before else 0.0
        loop_ms = timing.loop_cost_ms or 0.0
        depth = ((timing.depth or timing.kv_used) + timing.kv_used) / 2
        ours = holding(self._devices, model)
        # Without any, those that layers could be put on: the ones that this llama.cpp can use.
        usable = ours or tuple(device for device in self._devices if device.ggml)
        peak = max((one.dram_peak_bytes_s or 0.0 for one in usable), default=0.0) or None
        found, why = tiers(
            model.placement,
            turn.clocks,
            max(0.0, (timing.tpot_ms or 0.0) - loop_ms),
            model.bytes_per_token,
            model.kv_bytes_per_token * depth,
            {"RAM": self._peaks.ram(model.threads), "VRAM": Peak(peak, "" if peak else _NO_PEAK)},
        )
        link = busiest_link(ours, turn.devices)
        engine, kernel, box = _cores(before, after, seconds)
        read = rate(before.read_bytes, after.read_bytes, seconds) if before else None
        return Evidence(
            n_output=timing.n_output,
            tpot_ms=timing.tpot_ms,
            loop_cost_ms=timing.loop_cost_ms,
            tiers=found,
            why_no_tiers=why,
            page_in_bytes=None if read is None else read * seconds / max(1, timing.n_output - 1),
            io_stalled=_stalled(before, after, seconds),
            io_scope=turn.pressure_scope,
            threads=model.threads,
            physical_cores=physical_cores(),
            logical_cores=os.cpu_count() or 1,
            engine_cores=engine,
            kernel_cores=kernel,
            other_cores=max(0.0, box - engine) if box is not None and engine is not None else None,
            gpu_busy_pct=_gpu_busy(turn),
            file_bytes=model.file_bytes,
            n_params=model.n_params,
            streaming=self._streaming,
            ram_available_bytes=self._available,
            dram_bytes_s=dram_bytes_s(ours, turn.devices),
            pcie_bytes_s=link[0] if link else None,
            pcie_peak_bytes_s=link[1] if link else None,
            vram_free_bytes=_free(usable),
            vram_peak_bytes_s=peak,
            quant=model.quant,
            disk_peak_bytes_s=self._disk_peak,
            demand_bytes=_mean([clock.demand_total for clock in turn.clocks]),
            read_ahead_bytes=_mean([clock.read_ahead_total for clock in turn.clocks]),
        )

    async def _ask_devices(self) -> None:
        self._devices = (await self._sampler.devices()).devices

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _disk_peak(file: Path) -> float | None:
    try:
        return known_disk_peak(disk_under(file).name)
    except OSError:
        return None


def _cores(before: Counts | None, after: Counts, seconds: float) -> tuple[float | None, ...]:
    """Cores kept busy by the engine, by the kernel for it, and by everybody on the box."""
    if before is None or seconds < _SHORTEST_S:
        return None, None, None
    return (
        rate(before.cpu_s, after.cpu_s, seconds),
        rate(before.kernel_s, after.kernel_s, seconds),
        rate(before.box_busy_s, after.box_busy_s, seconds),
    )


def _stalled(before: Counts | None, after: Counts, seconds: float) -> float | None:
    """The kernel books the wait for a page that was taken and read again as one for memory as well."""
    if before is None:
        return None
    io = rate(before.io_stall_s, after.io_stall_s, seconds)
    memory = rate(before.memory_stall_s, after.memory_stall_s, seconds)
    return max((stall for stall in (io, memory) if stall is not None), default=None)


def _free(devices: Sequence[DeviceMemory]) -> int | None:
    free = [
        one.total_bytes - one.used_bytes
        for one in devices
        if one.kind == "gpu" and one.total_bytes is not None and one.used_bytes is not None
    ]
    return sum(free) if free else None


def _gpu_busy(turn: Turn) -> float | None:
    shares = [
        device.utilization_pct
        for devices in turn.devices
        for device in devices
        if device.utilization_pct is not None and device.ours_bytes
    ]
    return fmean(shares) if shares else None

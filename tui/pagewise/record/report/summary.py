"""Goes through a record once and keeps what a report shows. Of the conversation nothing is kept but its figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from pagewise import messages
from pagewise.messages import EngineHello, Failure, HostHello, Loaded, StopReason
from pagewise.readings import (
    Devices,
    LayerClock,
    Memory,
    MonitorSample,
    OperatorProfile,
    Paging,
    Residency,
    StackProfile,
    TurnTiming,
    Verdict,
    WatchedModel,
)
from pagewise.record.reader import Record

Number = TypeVar("Number", int, float)
UNKNOWN = 255
"""In a row of residency: it is not known how much of this layer is in RAM. 0 to 254 are shares, 254 all of it."""

OF_MONITOR = 0
"""The turn of a layer clock that a monitor saw: it is told of no turn."""


class Sample(NamedTuple):
    """The figures of one reading of one process; None: not known. Bytes, bytes a second, per cent."""

    at_s: float
    page_in_bytes_s: float | None
    stalls_s: float | None
    refault_bytes_s: float | None
    io_pressure_pct: float | None
    rss_bytes: int | None
    file_bytes: int | None
    anon_bytes: int | None
    available_bytes: int
    file_cached_bytes: int | None
    cpu_pct: float | None
    vram_used_bytes: int | None
    vram_ours_bytes: int | None
    power_w: float | None
    decode_rate: float | None
    """What a server says of itself, tokens a second; of our own engine the turns tell it."""


class Row(NamedTuple):
    """Residency of the layers of one file at one moment, a byte a layer."""

    at_s: float
    names: tuple[str, ...]
    shares: bytes


@dataclass
class Subject:
    """One process over time."""

    title: str
    samples: list[Sample] = field(default_factory=list)
    residency: list[Row] = field(default_factory=list)
    method: str = ""
    verdict: Verdict | None = None
    """The last one that the monitor gave."""
    clock: LayerClock | None = None
    """The last one that the monitor gave of an engine of pagewise."""


@dataclass
class Turn:
    """One question and its reply, as figures."""

    id: int
    at_s: float
    model: str
    reason: StopReason | None = None
    timing: TurnTiming | None = None
    verdict: Verdict | None = None


class Gap(NamedTuple):
    """One piece of output: what it took, and how full the KV cache was after it."""

    at_s: float
    turn: int
    n_output: int
    kv_used: int
    step_ms: float
    profiled: int
    """1: it was computed node by node for an operator profile; in no distribution."""


class Clock(NamedTuple):
    """The layer clock of one probed token."""

    at_s: float
    turn: int
    clock: LayerClock
    who: str = ""
    """The process that the monitor saw; empty: the engine of the conversation."""


@dataclass
class Summary:
    """Everything a report is made from."""

    host: HostHello | None = None
    engine: EngineHello | None = None
    system: str = ""
    loads: list[tuple[float, Loaded]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    clocks: list[Clock] = field(default_factory=list)
    stacks: list[tuple[float, StackProfile]] = field(default_factory=list)
    operators: list[tuple[float, OperatorProfile]] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    failures: list[tuple[float, Failure]] = field(default_factory=list)
    devices: Devices | None = None
    """As first read."""
    memory: Memory | None = None
    """As first read."""


def summarize(record: Record) -> Summary:
    """The summary of a record. Raises RecordError where its file changes meanwhile."""
    summary = _Summarizing()
    for ms, message in record:
        summary.take(ms / 1000.0, message)
    return summary.found


class _Summarizing:
    """The summary while it is being made."""

    def __init__(self) -> None:
        self.found = Summary()
        self._engine = Subject("The engine")
        self._watched: dict[tuple[int | None, int | None, str], Subject] = {}
        self._turns: dict[int, Turn] = {}

    def take(self, at_s: float, message: messages.Event | messages.Command) -> None:
        """One message more."""
        found = self.found
        match message:
            case messages.HostHello():
                found.host, found.system = message, message.system
            case messages.EngineHello():
                found.engine = message
            case messages.Loaded():
                found.loads.append((at_s, message))
            case messages.Generate(id=id):
                model = found.loads[-1][1].model.name if found.loads else ""
                self._turns[id] = Turn(id, at_s, model)
                found.turns.append(self._turns[id])
            case messages.Tokens() as out:
                found.gaps.append(Gap(at_s, out.id, out.n_output, out.kv_used, out.step_ms, int(out.profiled)))
            case messages.Layers(id=id, clock=clock):
                found.clocks.append(Clock(at_s, id, clock))
            case messages.Stacks(profile=StackProfile() as stacks):
                found.stacks.append((at_s, stacks))
            case messages.Operators(profile=OperatorProfile() as operators):
                found.operators.append((at_s, operators))
            case messages.Finished(id=id):
                self._finished(at_s, message)
            case messages.Judged(id=id, verdict=verdict):
                if id in self._turns:
                    self._turns[id].verdict = verdict
            case messages.Reading(snapshot=snapshot):
                self._devices(snapshot.devices, snapshot.memory)
                self._reading(at_s, snapshot.devices, snapshot.memory, snapshot.paging, snapshot.residency)
            case messages.Monitored(sample=sample):
                self._monitored(at_s, sample)
            case messages.LoadFailed(cancelled=False) | messages.EngineLost() | messages.Notice():
                found.failures.append((at_s, message.failure))
            case _:
                pass

    def _finished(self, at_s: float, event: messages.Finished) -> None:
        turn = self._turns.get(event.id)
        if turn is not None:
            turn.reason, turn.timing = event.reason, event.timing
        if event.failure is not None and event.failure not in [failure for _, failure in self.found.failures]:
            self.found.failures.append((at_s, event.failure))

    def _devices(self, devices: Devices, memory: Memory) -> None:
        if self.found.devices is None:
            self.found.devices, self.found.memory = devices, memory

    def _reading(
        self, at_s: float, devices: Devices, memory: Memory, paging: Paging | None, residency: Residency | None
    ) -> None:
        if not self._engine.samples:
            self.found.subjects.append(self._engine)
        self._engine.samples.append(
            Sample(
                at_s,
                *_paging(paging),
                memory.engine_rss_bytes,
                memory.engine_file_bytes,
                memory.engine_anon_bytes,
                memory.available_bytes,
                residency.file_cached_bytes if residency is not None else None,
                memory.engine_cpu_pct,
                _sum([device.used_bytes for device in devices.devices]),
                _sum([device.ours_bytes for device in devices.devices]),
                _sum([device.power_w for device in devices.devices]),
                None,
            )
        )
        _residency(self._engine, at_s, residency)

    def _monitored(self, at_s: float, sample: MonitorSample) -> None:
        self.found.system = self.found.system or sample.system
        self._devices(sample.devices, sample.memory)
        for model in sample.models:
            main = model.models[0] if model.models else None
            name = (main.name or main.path.rpartition("/")[2]) if main else (model.server.model if model.server else "")
            key = (model.pid, model.started_ticks, "" if model.pid is not None else name)
            if key not in self._watched:
                who = model.program if model.pid is None else f"{model.program} {model.pid}"
                self._watched[key] = Subject(f"{who}: {name}" if name else who)
                self.found.subjects.append(self._watched[key])
            self._model(self._watched[key], at_s, sample, model)

    def _model(self, subject: Subject, at_s: float, sample: MonitorSample, model: WatchedModel) -> None:
        residency = model.residency[0] if model.residency else None
        subject.verdict = model.verdict or subject.verdict
        clock = model.engine.clock if model.engine is not None else None
        if clock is not None and clock != subject.clock:
            subject.clock = clock
            self.found.clocks.append(Clock(at_s, OF_MONITOR, clock, subject.title))
        subject.samples.append(
            Sample(
                at_s,
                *_paging(model.paging),
                model.rss_bytes,
                model.file_bytes,
                model.anon_bytes,
                sample.memory.available_bytes,
                residency.file_cached_bytes if residency is not None else None,
                model.cpu_pct,
                _sum([device.used_bytes for device in sample.devices.devices]),
                model.vram_bytes,
                _sum([device.power_w for device in sample.devices.devices]),
                model.decode_rate,
            )
        )
        _residency(subject, at_s, residency)


def _paging(paging: Paging | None) -> tuple[float | None, float | None, float | None, float | None]:
    if paging is None:
        return None, None, None, None
    return paging.page_in_bytes_s, paging.stalls_s, paging.refault_bytes_s, paging.io_pressure_pct


def _residency(subject: Subject, at_s: float, residency: Residency | None) -> None:
    if residency is None:
        return
    subject.method = residency.method
    shares = bytes(
        UNKNOWN
        if layer.cached_bytes is None or not layer.bytes
        else round(254 * min(1.0, layer.cached_bytes / layer.bytes))
        for layer in residency.layers
    )
    names = tuple(layer.name for layer in residency.layers)
    former = subject.residency[-1].names if subject.residency else ()
    subject.residency.append(Row(at_s, former if former == names else names, shares))


def _sum(values: Iterable[Number | None]) -> Number | None:
    """Of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None

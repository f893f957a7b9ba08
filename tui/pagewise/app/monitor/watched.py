"""What is kept of each watched model from sample to sample, as the gauges want it."""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from pagewise import messages
from pagewise.app.readout import Readout
from pagewise.readings import DeviceMemory, LayerClock, Missing, MonitorSample, Residency, Snapshot, WatchedModel

SAMPLES = 240
ENDED_S = 30.0
"""So long the last readings of a process that has ended stay to be seen."""
_MOST_ENDED = 8

Key = tuple[int | None, int | None, str]


class Watched:
    """One model over time: its last reading, the readout that the gauges draw from, and its layers' history."""

    def __init__(self) -> None:
        self.model: WatchedModel | None = None
        self.readout = Readout()
        self.layers: deque[tuple[float | None, ...]] = deque(maxlen=SAMPLES)
        """Shares of the first file's layers that are in RAM, oldest sample first."""
        self.names: tuple[str, ...] = ()
        self.ended_s: float | None = None
        """When it was said to have ended, in seconds since 1970."""

    def take(self, model: WatchedModel, sample: MonitorSample) -> None:
        """One more sample. Of a process that has ended the last readings stay."""
        if model.state == "ended":
            self.ended_s = sample.time_s
            self.model = model if self.model is None else replace(self.model, state="ended")
            return
        self.model = model
        residency = model.residency[0] if model.residency else None
        snapshot = Snapshot(
            at_s=sample.time_s,
            engine_pid=model.pid,
            devices=replace(sample.devices, devices=_ours(sample.devices.devices, model)),
            memory=replace(
                sample.memory,
                engine_rss_bytes=model.rss_bytes,
                engine_file_bytes=model.file_bytes,
                engine_anon_bytes=model.anon_bytes,
                engine_cpu_pct=model.cpu_pct,
            ),
            paging=model.paging,
            residency=residency,
        )
        self.readout.take(messages.Reading(snapshot))
        self.readout.verdict = model.verdict
        if model.engine is not None:
            self.readout.probe_every = model.engine.probe_every
            self._clock(model.engine.clock)
        self._remember(residency)

    def _clock(self, clock: LayerClock | None) -> None:
        if clock is None:
            self.readout.clock = None
            self.readout.clocks.clear()
        elif clock != self.readout.clock:
            self.readout.clock = clock
            self.readout.clocks.append(clock)

    def _remember(self, residency: Residency | None) -> None:
        if residency is None:
            return
        names = tuple(layer.name for layer in residency.layers)
        if names != self.names:
            self.names = names
            self.layers.clear()
        self.layers.append(
            tuple(
                None if layer.cached_bytes is None or not layer.bytes else min(1.0, layer.cached_bytes / layer.bytes)
                for layer in residency.layers
            )
        )


class Box:
    """All watched models, in the order in which the box gives them; last those that have ended a short time ago."""

    def __init__(self) -> None:
        self.sample: MonitorSample | None = None
        self.watched: list[Watched] = []
        self._known: dict[Key, Watched] = {}

    def forget(self) -> None:
        """As if there had been no sample yet."""
        self.sample = None
        self.watched = []
        self._known = {}

    def take(self, sample: MonitorSample) -> None:
        """One more sample. What is no longer in it is forgotten; what has ended some time later."""
        self.sample = sample
        known: dict[Key, Watched] = {}
        former = [(key, one) for key, one in self._known.items() if one.ended_s is not None]
        kept = [entry for entry in former if 0 <= sample.time_s - (entry[1].ended_s or 0.0) < ENDED_S]
        for model in sample.models:
            key = key_of(model)
            known[key] = self._known.get(key) or Watched()
            known[key].take(model, sample)
        for key, one in kept[-_MOST_ENDED:]:
            known.setdefault(key, one)
        self._known = known
        self.watched = list(known.values())


def key_of(model: WatchedModel) -> Key:
    """What stays the same of a model from sample to sample."""
    return model.pid, model.started_ticks, "" if model.pid is not None else name_of(model)


def name_of(model: WatchedModel) -> str:
    """The model's name: by its header, else its file's, else the server's word for it."""
    if model.models:
        main = model.models[0]
        return main.name or main.path.rpartition("/")[2]
    return model.server.model if model.server else ""


def reasons(model: WatchedModel) -> list[Missing]:
    """Everything that is not known of a model, with its reasons."""
    found = [entry for held in model.models for entry in held.missing]
    found += model.missing
    if model.paging is not None:
        found += model.paging.missing
    found += [entry for residency in model.residency for entry in residency.missing]
    if model.server is not None:
        found += model.server.missing
    if model.engine is not None:
        found += model.engine.missing
    return list(dict.fromkeys(found))


def _ours(devices: tuple[DeviceMemory, ...], model: WatchedModel) -> tuple[DeviceMemory, ...]:
    # How a process's share is spread over several devices is not told.
    return (replace(devices[0], ours_bytes=model.vram_bytes),) if len(devices) == 1 else devices

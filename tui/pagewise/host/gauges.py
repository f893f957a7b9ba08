"""All instruments together: what they look at, and one snapshot of them. Lives in the sampling thread alone."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pagewise.instruments.devices import DevicesInstrument, with_ggml
from pagewise.instruments.paging import PagingInstrument
from pagewise.instruments.residency import ModelFile, ResidencyInstrument
from pagewise.instruments.system import SystemInstrument
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.layers import layer_ranges
from pagewise.readings import DeviceMemory, Devices, GgmlDevice, LayerPlacement, Snapshot

if TYPE_CHECKING:
    from pagewise.instruments.portable import PortableSystemInstrument

_GIVING_BACK_S = 2.5
_LOOK_AGAIN_S = 0.05
_SETTLED_BYTES = 16 << 20
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class Gauges:
    """The instruments. They keep reading through a crash, a switch and a load; ``look_at`` says what is there now."""

    def __init__(self) -> None:
        self._devices = DevicesInstrument()
        self._pid: int | None = None
        self._on_device = False
        self._told: tuple[GgmlDevice, ...] = ()
        self._system = system_instrument(None)
        self._paging: PagingInstrument | None = None
        self._residency: ResidencyInstrument | None = None

    def before_engine(self) -> None:
        """No engine is up: what the devices hold now is not ours, once they have given back what was."""
        held = self._devices.used_bytes()
        until = time.monotonic() + _GIVING_BACK_S
        while held is not None and time.monotonic() < until:
            time.sleep(_LOOK_AGAIN_S)
            before, held = held, self._devices.used_bytes()
            if held is None or held > before - _SETTLED_BYTES:
                break
        self._devices.mark_baseline()

    def look_at(self, pid: int | None, path: Path | None, placement: Sequence[LayerPlacement] = ()) -> None:
        """From now on read engine ``pid`` and the model file at ``path``, whose layers are placed like that."""
        if self._paging:
            self._paging.close()
        if self._residency:
            self._residency.close()
        self._system.close()
        if pid != self._pid:
            self._told = ()
        self._pid = pid
        self._on_device = any(layer.device_bytes for layer in placement)
        self._system = system_instrument(pid)
        self._paging = PagingInstrument(pid, path) if pid is not None else None
        self._residency = None
        if path is not None:
            # A file that is no model, or is gone: the load that met it says so.
            with contextlib.suppress(GgufError, OSError):
                self._residency = ResidencyInstrument(model_files(path), pid, placement)

    def hear_engine(self, devices: Sequence[GgmlDevice]) -> None:
        """What the engine that is looked at says of the accelerators."""
        self._told = tuple(devices)

    def devices(self) -> Devices:
        """The accelerators now."""
        return with_ggml(self._devices.sample(self._pid, self._on_device), self._told)

    def energy_j(self, devices: Sequence[DeviceMemory]) -> tuple[float, float] | None:
        """Joules by the counters of these devices together, and when, by the monotonic clock; None where one has none.

        ``devices``: as they were sampled before.
        """
        counters = [self._devices.energy_j(device) for device in devices]
        known = [counter for counter in counters if counter is not None]
        return (sum(known), time.monotonic()) if known and len(known) == len(counters) else None

    def sample(self) -> Snapshot:
        """All readings now."""
        return Snapshot(
            at_s=time.monotonic(),
            engine_pid=self._pid,
            devices=self.devices(),
            memory=self._system.sample(),
            paging=self._paging.sample() if self._paging else None,
            residency=self._residency.sample() if self._residency else None,
        )


def model_parts(path: Path) -> tuple[Path, ...]:
    """The files of a model of which ``path`` is the first: all parts of a split one."""
    part = _PART.search(path.name)
    if not part:
        return (path,)
    stem, count = path.name[: part.start()], int(part[2])
    return tuple(path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1))


def model_files(path: Path) -> tuple[ModelFile, ...]:
    """The files of a model with the layers in them. Raises GgufError."""
    return tuple(ModelFile(part, layer_ranges(read_header(part, complete=False))) for part in model_parts(path))


def system_instrument(pid: int | None) -> SystemInstrument | PortableSystemInstrument:
    """RAM and CPU, by the way this system has."""
    try:
        return SystemInstrument(pid)
    except OSError:
        # psutil costs 40 ms to import, and Linux does without it.
        from pagewise.instruments.portable import PortableSystemInstrument

        return PortableSystemInstrument(pid)

"""What plans missed by, kept for each model on this machine, and what the driver takes: the next plan's margins."""

from __future__ import annotations

import contextlib
import platform
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from pagewise.atomic import write_atomically
from pagewise.jobs.plan import RAM, Compared
from pagewise.profiles.state import state_file

LEAST_MARGIN = 256 * 1024 * 1024
"""Of RAM and of each device: what libraries take as they go, and other programs between plan and load."""
_MAX_FILE = 4 * 1024 * 1024
_MODELS = 256
_LOADS = 8
_OTHER = re.compile(r"[^\w.-]")
_LEAST_DRIVER = 1024 * 1024


class Load(Struct, frozen=True):
    """One load: each device as it was planned and as it came."""

    devices: tuple[Compared, ...]


class Learned(Struct, frozen=True):
    """All that was learned here. ``models``: the last loads of each, oldest first; ``drivers``: bytes by device."""

    models: dict[str, tuple[Load, ...]] = {}
    drivers: dict[str, int] = {}

    def margin(self, model: str) -> int:
        """What is to stay free: as much as plans of this model fell short by, or those of any while it is new."""
        loads = self.models.get(model) or tuple(load for loads in self.models.values() for load in loads)
        missed = [entry.missed_bytes for load in loads for entry in load.devices]
        return max(LEAST_MARGIN, *missed) if missed else LEAST_MARGIN

    def last(self, model: str) -> tuple[Compared, ...]:
        """The last load of this model; empty if there was none."""
        loads = self.models.get(model)
        return loads[-1].devices if loads else ()

    def driver(self, device: str) -> int | None:
        """What the driver takes on a device beside llama.cpp's buffers; None until it has been seen."""
        return None if device == RAM else self.drivers.get(device)


def learned_file() -> Path:
    """The file that holds it, in the user's state folder: one for each machine that shares the folder."""
    return state_file().with_name(f"plans-{_OTHER.sub('_', platform.node())[:64] or 'machine'}.json")


def model_key(path: str, file_bytes: int) -> str:
    """A model file by name and size, so that it is the same one after it was moved."""
    return f"{Path(path).name}:{file_bytes}"


def read_learned(path: Path | None = None) -> Learned:
    """What was learned; nothing where the file is missing, damaged or of another version."""
    try:
        with (path or learned_file()).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_FILE), type=Learned)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return Learned()


def learn_load(model: str, devices: tuple[Compared, ...], path: Path | None = None) -> None:
    """Keep one load of ``model``. Where the folder cannot be written to it is forgotten."""
    learned = read_learned(path)
    loads = dict(learned.models)
    former = loads.pop(model, ())
    loads[model] = (*former, Load(devices))[-_LOADS:]
    while len(loads) > _MODELS:
        del loads[next(iter(loads))]
    _write(msgspec.structs.replace(learned, models=loads), path)


def learn_driver(device: str, size: int, path: Path | None = None) -> None:
    """Keep what the driver takes on a device."""
    learned = read_learned(path)
    if abs(learned.drivers.get(device, 0) - size) >= _LEAST_DRIVER:
        _write(msgspec.structs.replace(learned, drivers={**learned.drivers, device: size}), path)


def _write(learned: Learned, path: Path | None) -> None:
    with contextlib.suppress(OSError):
        write_atomically(path or learned_file(), msgspec.json.encode(learned))

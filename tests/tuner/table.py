"""A recorded grid as a meter: each measurement is one of those that were really taken, drawn again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pagewise.failure import Failure
from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim
from pagewise.settings import Profile
from pagewise.tuner.comparison import Quality, Taken, TrialFailed
from pagewise.tuner.move import Move

Point = tuple[tuple[str, Any], ...]


class Cell(Struct, frozen=True):
    """One configuration: its keys, and ``(ttft_ms, tpot_ms)`` of each repetition; none where it could not run."""

    keys: dict[str, Any]
    samples: tuple[tuple[float, float], ...]
    seconds: float
    """For all repetitions."""

    @property
    def point(self) -> Point:
        return point_of(self.keys)


class Grid(Struct, frozen=True):
    """All configurations of a small space."""

    machine: str
    model: str
    n_prompt: int
    n_output: int
    depth: int
    physical_cores: int
    logical_cores: int
    bytes_per_token: int
    kv_bytes_at_depth: int
    model_bytes: int
    flash_default: bool
    defaults: dict[str, Any]
    """What the start has in force."""
    cells: tuple[Cell, ...]


def point_of(keys: dict[str, Any]) -> Point:
    return tuple(sorted(keys.items()))


def read_grid(path: Path) -> Grid:
    return msgspec.json.decode(path.read_bytes(), type=Grid)


class TableMeter:
    """``seconds`` is what the measurements would have taken: a quick one takes a part of a thorough one."""

    def __init__(self, grid: Grid, seed: int, quick_share: float = 0.3) -> None:
        self._cells = {cell.point: cell for cell in grid.cells}
        self._keys = sorted(grid.cells[0].keys)
        self._defaults = grid.defaults
        self._grid = grid
        self._random = random.Random(seed)
        self._quick_share = quick_share
        self.seconds = 0.0
        self.measured = 0

    def point(self, profile: Profile) -> Point:
        values = {key: getattr(profile, key) for key in self._keys}
        for key, value in self._defaults.items():
            if values.get(key) in (0, "auto"):
                values[key] = value
        return point_of(values)

    def holds(self, move: Move, profile: Profile) -> bool:
        """Whether the grid has what the move leads to."""
        return move.keys <= set(self._keys) and self.point(move.applied(profile)) in self._cells

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        cell = self._cells[self.point(profile)]
        if not cell.samples:
            raise TrialFailed(Failure("It could not run", "It did not when the grid was recorded.", "Take another."))
        self.measured += 1
        self.seconds += cell.seconds / len(cell.samples) * (1.0 if thorough else self._quick_share)
        ttft, tpot = self._random.choice(cell.samples)
        keys = dict(cell.point)
        measured = Measured(
            0,
            prefill_ns=int(ttft * 1e6),
            ttft_ns=int(ttft * 1e6),
            decode_ns=int(tpot * 1e6 * (aim.n_output - 1)),
            n_prompt=aim.n_prompt,
            n_output=aim.n_output,
        )
        return Taken(
            measured,
            keys.get("threads", self._grid.physical_cores),
            keys.get("threads_batch", self._grid.physical_cores),
            keys.get("n_ubatch", 512),
            keys.get("flash_attention", "on") == "on",
            None,
            None,
        )

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        return None

    async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
        return None

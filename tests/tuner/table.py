"""A recorded grid as a meter: each measurement is one of those that were really taken, drawn again."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pagewise.failure import Failure
from pagewise.host.jobs.tune_meter import LEAST_OUTPUT, WARM_UP_PROMPT, output_of
from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim
from pagewise.profiles.cost import change_class
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
    load_seconds: dict[str, float] = {}
    """The longest time that a change of each class took to bring in force; empty in grids without it."""


def point_of(keys: dict[str, Any]) -> Point:
    return tuple(sorted(keys.items()))


def read_grid(path: Path) -> Grid:
    return msgspec.json.decode(path.read_bytes(), type=Grid)


class TableMeter:
    """``seconds`` is what the real meter would have taken: loads and warm-ups count, and of a quick measurement only
    the tokens that it does not write are left out, not its prompt and not what stands before that.
    """

    def __init__(self, grid: Grid, seed: int) -> None:
        self._cells = {cell.point: cell for cell in grid.cells}
        self._keys = sorted(grid.cells[0].keys)
        self._defaults = grid.defaults
        self._grid = grid
        self._random = random.Random(seed)
        self._former: Profile | None = None
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
        self.seconds += self._warm_up(profile, cell) + self._taking(cell, output_of(aim, thorough), 1.0)
        self._former = profile
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

    def _taking(self, cell: Cell, n_output: int, prompt_share: float) -> float:
        """Seconds of one measurement of so many tokens of output and such a share of the prompt, by the medians."""
        ttft, tpot = (statistics.median(column) / 1000 for column in zip(*cell.samples, strict=True))
        whole = cell.seconds / len(cell.samples)
        return max(0.0, whole - tpot * (self._grid.n_output - n_output) - ttft * (1 - prompt_share))

    def _warm_up(self, profile: Profile, cell: Cell) -> float:
        """Behind any change that is not live the engine's meter loads, and measures once for nothing."""
        change = "process" if self._former is None else change_class(self._former, profile)[0]
        if change in ("none", "live"):
            return 0.0
        share = min(1.0, WARM_UP_PROMPT / self._grid.n_prompt)
        return self._grid.load_seconds.get(change, 0.0) + self._taking(cell, LEAST_OUTPUT, share)

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        return None

    async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
        return None

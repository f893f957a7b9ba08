"""What one measurement is: a name, its unit, its samples, and the budget it is held against."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tests.bench.pairs import median_interval


@dataclass(frozen=True)
class Measurement:
    """Samples of one quantity. ``limit`` is the budget; ``sense`` says on which side of it the median has to be.

    ``paired``: the samples are ratios of pairs on a machine that drifts: the 95 % interval of their median decides.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    limit: float | None = None
    sense: Literal["at most", "at least", "off 1 by at most"] = "at most"
    note: str = ""
    paired: bool = False

    @property
    def median(self) -> float:
        """Median of the samples."""
        return statistics.median(self.samples)

    @property
    def within(self) -> bool | None:
        """Whether the budget is kept; None where there is none, or where an interval shows neither."""
        if self.limit is None:
            return None
        if self.interval is None:
            return self._keeps(self.median)
        keeps = [self._keeps(end) for end in self.interval]
        if all(keeps):
            return True
        low, high = self.interval
        missed = low > 1 + self.limit or high < 1 - self.limit if self.sense == "off 1 by at most" else not any(keeps)
        return False if missed else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the median of pairs; None of anything else."""
        return median_interval(self.samples) if self.paired else None

    def _keeps(self, value: float) -> bool:
        assert self.limit is not None
        if self.sense == "off 1 by at most":
            return abs(value - 1) <= self.limit
        return value <= self.limit if self.sense == "at most" else value >= self.limit


@dataclass
class Report:
    """All measurements of one run, with the machine they were made on."""

    machine: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Take measurements in and print them as they come."""
        for entry in measurements:
            self.measurements.append(entry)
            print(row(entry), flush=True)

    def write(self, path: Path) -> None:
        """All samples as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            asdict(entry) | {"median": entry.median, "interval": entry.interval, "within": entry.within}
            for entry in self.measurements
        ]
        path.write_text(json.dumps({"machine": self.machine, "measurements": rows}, indent=1))


def row(entry: Measurement) -> str:
    """One line of the table: what, median, spread, budget, verdict."""
    low, high = entry.interval or (min(entry.samples), max(entry.samples))
    spread = f"{low:.4g} … {high:.4g}" + (", 95 %" if entry.paired else "")
    budget = f"{entry.sense} {entry.limit:g}" if entry.limit is not None else ""
    undecided = "not shown" if entry.limit is not None else ""
    word = {True: "kept", False: "MISSED", None: undecided}[entry.within]
    note = f" ({entry.note})" if entry.note else ""
    median = f"{entry.median:.4g} {entry.unit}"
    return f"| {entry.what}{note} | {median} | {spread} | {len(entry.samples)} | {budget} | {word} |"


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        memory = Path("/proc/meminfo").read_text().split()[1]
        ram = f"{int(memory) / 1024**2:.0f} GiB"
    except OSError:
        ram = "unknown"
    return {
        "cpu": f"{model}, {os.cpu_count()} cores",
        "ram": ram,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.2f} before the first run",
    }

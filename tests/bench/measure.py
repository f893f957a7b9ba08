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


@dataclass(frozen=True)
class Measurement:
    """Samples of one quantity. ``limit`` is the budget; ``sense`` says on which side of it the median has to be."""

    what: str
    unit: str
    samples: tuple[float, ...]
    limit: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    note: str = ""

    @property
    def median(self) -> float:
        """Median of the samples."""
        return statistics.median(self.samples)

    @property
    def within(self) -> bool | None:
        """Whether the median keeps the budget; None where there is none."""
        if self.limit is None:
            return None
        return self.median <= self.limit if self.sense == "at most" else self.median >= self.limit


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
        rows = [asdict(entry) | {"median": entry.median, "within": entry.within} for entry in self.measurements]
        path.write_text(json.dumps({"machine": self.machine, "measurements": rows}, indent=1))


def row(entry: Measurement) -> str:
    """One line of the table: what, median, spread, budget, verdict."""
    spread = f"{min(entry.samples):.4g} … {max(entry.samples):.4g}"
    budget = f"{entry.sense} {entry.limit:g}" if entry.limit is not None else ""
    word = {True: "kept", False: "MISSED", None: ""}[entry.within]
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

"""Which layers of a model file are in RAM, read in turn within a budget of CPU time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pagewise.instruments.pagecache import PAGE, Pages, Way, choose
from pagewise.instruments.procfs import KeptFile, parse_values
from pagewise.models.layers import LayerRange
from pagewise.readings import LayerPlacement, LayerResidency, Missing, Residency, Where

BUDGET_MS_PER_S = 10.0
_AHEAD_S = 4.0
"""Of most models the first sample then says everything; with one second of the budget it took many samples."""
_REST = ""


class ModelFile(NamedTuple):
    """One file of a model, and the layers that lie in it."""

    path: Path
    layers: tuple[LayerRange, ...]


@dataclass
class _Cell:
    """One layer of one file, or (named ``_REST``) what belongs to none: when it was read last, and what was found."""

    file: int
    name: str
    bytes: int
    ranges: tuple[tuple[int, int], ...]
    found: Pages | None = None
    read_at: float = 0.0


class ResidencyInstrument:
    """Residency of the files of one model. ``placement`` says which layers live elsewhere: these have no value here.

    A sample reads as many layers as the budget allows, beginning where the former one ended; the first reads at least
    one of them, and may take what ``_AHEAD_S`` seconds have. What a sample costs above the budget is saved up by the
    next ones.
    """

    def __init__(
        self,
        files: Sequence[ModelFile],
        pid: int | None,
        placement: Sequence[LayerPlacement] = (),
        budget_ms_per_s: float = BUDGET_MS_PER_S,
    ) -> None:
        self._files = tuple(files)
        self._sizes = [file.path.stat().st_size for file in self._files]
        self._placement = {layer.name: layer for layer in placement}
        self.budget_ms_per_s = budget_ms_per_s
        self._ways: list[Way] = []
        self._missing: tuple[Missing, ...] = ()
        for file in self._files:
            way, self._missing = choose(file.path, pid)
            if way is None:
                break
            self._ways.append(way)
        if len(self._ways) < len(self._files):
            self._close_ways()
        self._status = KeptFile(f"/proc/{pid}/status") if pid is not None and not self._ways else None
        self._cells = [
            _Cell(index, layer.name, layer.bytes, layer.ranges)
            for index, file in enumerate(self._files)
            for layer in file.layers
        ]
        for index, (file, size) in enumerate(zip(self._files, self._sizes, strict=True)):
            rest = _complement([span for layer in file.layers for span in layer.ranges], size)
            self._cells.append(_Cell(index, _REST, sum(end - start for start, end in rest), rest))
        self._next = 0
        self._credit_ms = _AHEAD_S * budget_ms_per_s
        self._sampled_at = time.monotonic()

    def sample(self) -> Residency:
        """What is known now; each layer carries the age of its value."""
        now = time.monotonic()
        if self._credit_ms < self.budget_ms_per_s:
            earned = self.budget_ms_per_s * (now - self._sampled_at)
            self._credit_ms = min(self.budget_ms_per_s, self._credit_ms + earned)
        self._sampled_at = now
        started = time.thread_time_ns()
        spent_ms = 0.0
        if self._ways:
            for _ in range(len(self._cells)):
                if spent_ms >= self._credit_ms:
                    break
                self._read_next(now)
                spent_ms = (time.thread_time_ns() - started) / 1e6
        self._credit_ms -= spent_ms
        return Residency(
            path=str(self._files[0].path) if self._files else "",
            file_bytes=sum(self._sizes),
            method=self._ways[0].name if self._ways else "RssFile",
            meaning=self._ways[0].meaning if self._ways else "mapped",
            layers=self._layers(now),
            file_cached_bytes=self._file_cached(),
            cost_ms=spent_ms,
            missing=self._missing,
        )

    def close(self) -> None:
        """Lets go of the files."""
        self._close_ways()
        if self._status:
            self._status.close()

    def _read_next(self, now: float) -> None:
        cell = self._cells[self._next]
        self._next = (self._next + 1) % len(self._cells)
        way = self._ways[cell.file]
        present = 0
        reclaimed: int | None = 0
        try:
            for start, end in cell.ranges:
                found = way.pages(start, end)
                present += min(found.present * PAGE, end - start)
                if reclaimed is not None:
                    reclaimed = None if found.reclaimed is None else reclaimed + found.reclaimed * PAGE
        except OSError as error:
            cell.found = None
            self._missing = (Missing("layers", f"{way.name} stopped answering: {error.strerror}"),)
            return
        cell.found = Pages(present, reclaimed)
        cell.read_at = now

    def _layers(self, now: float) -> tuple[LayerResidency, ...]:
        by_name: dict[str, list[_Cell]] = {}
        for cell in self._cells:
            if cell.name != _REST:
                by_name.setdefault(cell.name, []).append(cell)
        return tuple(self._layer(name, cells, now) for name, cells in by_name.items())

    def _layer(self, name: str, cells: list[_Cell], now: float) -> LayerResidency:
        placed = self._placement.get(name)
        where = self._where(name)
        found = [cell.found for cell in cells if cell.found is not None]
        known = len(found) == len(cells) and where in ("mapped", "unknown")
        size = sum(cell.bytes for cell in cells)
        present = min(size, sum(pages.present for pages in found))
        reclaimed = [pages.reclaimed for pages in found if pages.reclaimed is not None]
        return LayerResidency(
            name=name,
            bytes=size,
            cached_bytes=present if known else None,
            reclaimed_bytes=min(size - present, sum(reclaimed)) if known and len(reclaimed) == len(cells) else None,
            where=where,
            device=placed.device if placed else "",
            age_s=now - min(cell.read_at for cell in cells) if known else 0.0,
        )

    def _where(self, name: str) -> Where:
        placed = self._placement.get(name)
        return placed.where if placed else "unknown"

    def _file_cached(self) -> int | None:
        if self._ways:
            found = [cell.found for cell in self._cells if cell.found is not None]
            return sum(pages.present for pages in found) if len(found) == len(self._cells) else None
        if self._status is None:
            return None
        try:
            mapped = parse_values(self._status.read()).get("RssFile")
        except OSError:
            return None
        return None if mapped is None else min(mapped, sum(self._sizes))

    def _close_ways(self) -> None:
        for way in self._ways:
            way.close()
        self._ways.clear()


def _complement(ranges: Sequence[tuple[int, int]], size: int) -> tuple[tuple[int, int], ...]:
    rest, at = [], 0
    for start, end in sorted(ranges):
        if start > at:
            rest.append((at, start))
        at = max(at, end)
    if at < size:
        rest.append((at, size))
    return tuple(rest)

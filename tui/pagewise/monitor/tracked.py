"""One process that is watched: its instruments, kept open from sample to sample."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from pagewise.instruments.counters import rate
from pagewise.instruments.paging import PagingInstrument
from pagewise.instruments.procfs import KeptFile, parse_process_stat, parse_values
from pagewise.instruments.residency import ResidencyInstrument
from pagewise.models.gguf import printable
from pagewise.monitor.held import Group, Headers, describe, group, how_held
from pagewise.monitor.judgement import verdict_of
from pagewise.monitor.processes import Found
from pagewise.readings import (
    EngineReadings,
    Held,
    HeldModel,
    LayerPlacement,
    Memory,
    Missing,
    Paging,
    Residency,
    ServerReadings,
    Verdict,
    WatchedModel,
)

_ENDED = ("Z", "X")
_NO_FILE = (
    "It computes on a GPU, and no GGUF file is to be seen in its hands: it may have copied one to the device and "
    "closed it, or hold a model of another kind."
)
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class Ended(Exception):
    """The process is no more."""


class Context(NamedTuple):
    """What a sample of one process takes from the rest of the box."""

    at_s: float
    memory: Memory
    vram: Callable[[int], tuple[int | None, str]]
    """Bytes that a process has on devices, or why that is not known."""
    has_devices: bool
    server: ServerReadings | None
    server_missing: str
    engine: EngineReadings | Missing
    """What it tells of itself, if it is an engine of pagewise."""


class _Figures(NamedTuple):
    rss: int | None
    file: int | None
    anon: int | None
    swap: int | None
    threads: int | None
    cpu_s: float
    at_s: float


class _Watched(NamedTuple):
    """A model and its residency instrument, as long as nothing about the model changes."""

    key: object
    instrument: ResidencyInstrument | None
    why_not: str


class TrackedProcess:
    """Readings of one process. ``full``: with paging and residency; otherwise memory and threads alone."""

    def __init__(self, found: Found, headers: Headers, full: bool, budget_ms_per_s: float) -> None:
        self.found = found
        self.full = full
        self._headers = headers
        self._budget = budget_ms_per_s
        self._user = _user(found.uid)
        self._groups = group(found.holdings, headers)
        self._stat: KeptFile | None = None
        self._status: KeptFile | None = None
        self._paging: PagingInstrument | None = None
        self._watched: list[_Watched] = []
        self._last: _Figures | None = None
        self._sample: WatchedModel | None = None

    def update(self, found: Found, full: bool, budget_ms_per_s: float) -> None:
        """What the last round found. What cannot be read in full any more, or at last can, is opened anew."""
        if full != self.full or found.missing != self.found.missing:
            self.close()
        self.full, self._budget = full, budget_ms_per_s
        for watched in self._watched:
            if watched.instrument is not None:
                watched.instrument.budget_ms_per_s = budget_ms_per_s
        self.found = found
        self._groups = group(found.holdings, self._headers)

    def close(self) -> None:
        """Let go of everything."""
        for kept in (self._stat, self._status):
            if kept is not None:
                kept.close()
        if self._paging is not None:
            self._paging.close()
        for watched in self._watched:
            if watched.instrument is not None:
                watched.instrument.close()
        self._stat = self._status = self._paging = None
        self._watched = []

    def sample(self, context: Context, renew: bool) -> WatchedModel:
        """Readings now. Where it is not read in full, only ``renew`` reads it again. Raises Ended."""
        if self._sample is not None and not self.full and not renew:
            return self._sample
        figures, cpu = self._figures(context.at_s)
        missing = [*self.found.missing]
        paging = self._sampled_paging() if self.full else None
        if not self.full:
            missing.append(Missing("paging", "Only the largest models are read in full; `--pid` chooses this one."))
        elif paging is None:
            missing.append(Missing("paging", "There is no former reading yet."))
        vram, why_no_vram = context.vram(self.found.id.pid)
        if vram is None:
            missing.append(Missing("vram_bytes", why_no_vram))
        if not self._groups and vram:
            missing.append(Missing("models", _NO_FILE))
        engine = context.engine if isinstance(context.engine, EngineReadings) else None
        if isinstance(context.engine, Missing):
            missing.append(context.engine)
        if context.server is None and engine is None:
            missing.append(Missing("server", context.server_missing))
        untold = [name for name in ("rss", "file", "anon") if getattr(figures, name) is None]
        missing += [Missing(f"{name}_bytes", "the kernel does not tell it of this process") for name in untold]
        held = [how_held(one, figures.anon, self.found.command.reads_whole_file) for one in self._groups]
        placement = engine.placement if engine is not None else ()
        residency = self._residency(held, bool(vram), placement, missing) if self.full else ()
        told = engine.verdict if engine is not None else None
        verdict = told or self._verdict(context, paging, cpu, held)
        if isinstance(verdict, Missing):
            missing.append(verdict)
        self._sample = WatchedModel(
            pid=self.found.id.pid,
            started_ticks=self.found.id.started,
            user=self._user,
            program=printable(self.found.command.program),
            state="running",
            models=self._described(held),
            rss_bytes=figures.rss,
            file_bytes=figures.file,
            anon_bytes=figures.anon,
            swap_bytes=figures.swap,
            threads=figures.threads,
            cpu_pct=cpu,
            paging=paging,
            residency=residency,
            vram_bytes=vram,
            server=context.server,
            verdict=verdict if isinstance(verdict, Verdict) else None,
            missing=tuple(missing),
            engine=engine,
        )
        return self._sample

    def ended(self) -> WatchedModel:
        """The last thing to be said of it."""
        return WatchedModel(
            pid=self.found.id.pid,
            started_ticks=self.found.id.started,
            user=self._user,
            program=printable(self.found.command.program),
            state="ended",
            models=self._described(["unknown"] * len(self._groups)),
            missing=(Missing("process", "It has ended."),),
        )

    def _described(self, held: list[Held]) -> tuple[HeldModel, ...]:
        no_mappings = next((entry.why for entry in self.found.missing if entry.metric == "mappings"), "")
        return tuple(
            describe(one, how, _no_right(one, self._user), no_mappings)
            for one, how in zip(self._groups, held, strict=True)
        )

    def _figures(self, at_s: float) -> tuple[_Figures, float | None]:
        try:
            if self._stat is None or self._status is None:
                self._stat = KeptFile(f"/proc/{self.found.id.pid}/stat")
                self._status = KeptFile(f"/proc/{self.found.id.pid}/status")
            text = self._stat.read()
            stat = parse_process_stat(text)
            status = parse_values(self._status.read())
        except (OSError, ValueError) as error:
            raise Ended from error
        fields = text.rpartition(")")[2].split()
        # A number that was used again between the round and the opening of these files is another process.
        if fields[0] in _ENDED or int(fields[19]) != self.found.id.started:
            raise Ended
        if not self.full:
            self._stat.close()
            self._status.close()
            self._stat = self._status = None
        now = _Figures(
            rss=status.get("VmRSS"),
            file=status.get("RssFile"),
            anon=status.get("RssAnon"),
            swap=status.get("VmSwap"),
            threads=stat.threads,
            cpu_s=stat.cpu_ticks * _TICK_S,
            at_s=at_s,
        )
        before, self._last = self._last, now
        used = rate(before.cpu_s, now.cpu_s, now.at_s - before.at_s) if before else None
        return now, None if used is None else 100.0 * used

    def _sampled_paging(self) -> Paging | None:
        if self._paging is None:
            path = self._groups[0].path if self._groups else None
            self._paging = PagingInstrument(self.found.id.pid, path)
            return None
        paging = self._paging.sample()
        return replace(paging, missing=tuple(map(_with_right, paging.missing))) if self.found.missing else paging

    def _residency(
        self, held: list[Held], on_device: bool, told: tuple[LayerPlacement, ...], missing: list[Missing]
    ) -> tuple[Residency, ...]:
        """``told``: where the layers of the largest model are, by the process's own word."""
        placements = [one.placement(how, on_device) for one, how in zip(self._groups, held, strict=True)]
        if told and placements and {layer.name for layer in placements[0]} in ({layer.name for layer in told}, set()):
            placements[0] = told
        keys = [_key(one, placed) for one, placed in zip(self._groups, placements, strict=True)]
        former = {watched.key: watched for watched in self._watched}
        for key, watched in former.items():
            if key not in keys and watched.instrument is not None:
                watched.instrument.close()
        self._watched = [
            former.get(key) or self._open(key, one, placed)
            for key, one, placed in zip(keys, self._groups, placements, strict=True)
        ]
        found = []
        for watched, one in zip(self._watched, self._groups, strict=True):
            if watched.instrument is None:
                missing.append(Missing("residency", f"{one.holdings[0].file.path}: {watched.why_not}"))
            else:
                found.append(watched.instrument.sample())
        return tuple(found)

    def _open(self, key: object, one: Group, placement: tuple[LayerPlacement, ...]) -> _Watched:
        files = one.files()
        if not files:
            why = next((header.error for header in one.headers if header and header.error), "")
            return _Watched(key, None, why or _no_right(one, self._user))
        try:
            instrument = ResidencyInstrument(files, self.found.id.pid, placement, self._budget)
        except OSError as error:
            return _Watched(key, None, f"the file can no longer be opened: {error.strerror}")
        return _Watched(key, instrument, "")

    def _verdict(
        self, context: Context, paging: Paging | None, cpu: float | None, held: list[Held]
    ) -> Verdict | Missing:
        if not self._groups:
            return Missing("verdict", "It holds no model.")
        main = self._groups[0]
        return verdict_of(
            paging,
            context.server,
            context.memory,
            cpu,
            self.found.command.threads,
            main.token_bytes,
            main.bytes,
            in_ram=not context.has_devices and held[0] != "unknown",
        )


def _key(one: Group, placement: tuple[LayerPlacement, ...]) -> object:
    files = tuple((holding.file.readable, holding.file.identity, holding.file.bytes) for holding in one.holdings)
    return files, tuple(layer.where for layer in placement)


def _no_right(one: Group, user: str) -> str:
    path = one.holdings[0].file.path
    return f"{path} may not be read by this user; root may: `sudo pagewise monitor`. Its process belongs to {user}."


def _with_right(entry: Missing) -> Missing:
    """A refusal says who would not be refused."""
    if entry.metric not in ("page_in_bytes_s", "stalls_s"):
        return entry
    return Missing(entry.metric, f"{entry.why}; its owner or root may: `sudo pagewise monitor`")


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return printable(pwd.getpwuid(uid).pw_name)
    return str(uid)

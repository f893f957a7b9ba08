"""Every trial on disk: what was tried of a model on this machine, and how it did."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from pagewise.jobs.tune import TUNED, Aim, Goal, Trial
from pagewise.settings import Profile
from pagewise.tuner.lines import add_line, read_lines, tune_folder
from pagewise.tuner.move import Move, signature

_LOSERS = ("worse", "dropped")
_LEAST_DEPTH = 256
_TODAYS = frozenset({"fit_margin"})
"""What today's wishes decide, whatever an earlier tune began with."""
_QUALITY = ("cache_type_k", "cache_type_v")
Source = tuple[str, str | None]
"""The keys ``model`` and ``quant`` of a profile: which file it takes."""


class Conditions(Struct, frozen=True):
    """What a trial was measured for: what loses under one of them may win under another."""

    depth: int
    """In powers of two: it follows the person's conversations."""
    n_prompt: int
    n_output: int
    ttft_bound_ms: float | None
    leave_free_bytes: int
    leave_free_on: tuple[tuple[str, int], ...]
    n_ctx: int


def conditions(aim: Aim, start: Profile) -> Conditions:
    """Those of a tune with this aim that begins with ``start``."""
    depth = 2 ** round(math.log2(max(aim.depth, _LEAST_DEPTH)))
    leave = tuple(sorted(aim.leave_free_on))
    return Conditions(
        depth, aim.n_prompt, aim.n_output, aim.ttft_bound_ms, aim.leave_free_bytes, leave, start.n_ctx
    )  # fmt: skip


class Entry(Struct, frozen=True):
    """One line of a ledger. A trial of the file that the tune began with has no ``model``: files are moved."""

    machine: str
    goal: Goal
    trial: Trial
    measured_for: Conditions | None = None
    """None: it is not known, and what lost may be tried again."""
    is_lasting: bool = False
    """Of a trial that failed: whether it would fail again."""

    def has_lost(self, now: Conditions) -> bool:
        """Whether it need not be tried again."""
        lost = self.trial.outcome in _LOSERS or (self.trial.outcome == "failed" and self.is_lasting)
        return lost and self.measured_for == now


def machine_name(processor: str, cores: int, devices: tuple[str, ...]) -> str:
    """The same for the same machine: processor, cores that may be used, devices."""
    return " | ".join((processor, f"{cores} cores", *devices))


class Ledger:
    """The trials of one model. A folder that cannot be written to costs the memory of them, and nothing else."""

    def __init__(self, model: str, machine: str, goal: Goal, folder: Path | None = None) -> None:
        """``model``: what tells it from others, such as its name, size and quant."""
        name = hashlib.sha256(model.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self.path = (folder or tune_folder()) / f"{name}.jsonl"
        self._machine, self._goal = machine, goal

    def keep(self, trial: Trial, start: Profile, aim: Aim, *, is_lasting: bool = False) -> None:
        """Add one of a tune that began with ``start``. ``is_lasting``: if it failed, it would fail again."""
        profile = trial.profile
        if _source(profile) == _source(start):
            profile = msgspec.structs.replace(profile, model="", quant=None)
        kept = msgspec.structs.replace(trial, profile=profile)
        add_line(self.path, Entry(self._machine, self._goal, kept, conditions(aim, start), is_lasting))

    def entries(self) -> list[Entry]:
        """Those of this machine and goal, oldest first."""
        return [
            entry
            for entry in read_lines(self.path, Entry)
            if entry.machine == self._machine and entry.goal == self._goal
        ]


def begin_from(
    entries: list[Entry], start: Profile, aim: Aim, fixed: Collection[str] = (), others: Collection[Source] = ()
) -> tuple[list[Move], set[tuple[object, ...]]]:
    """Of earlier trials: the best one as the first move, and the signatures of those that lost at the same.

    Keys that the person's profile sets apart from speed (context length, sampling, …) stay the profile's, and so do
    those that are ``fixed`` now. ``others``: files that may be taken beside the start's own.
    """
    allowed = {_source(start), *others}
    now = conditions(aim, start)
    known = [(entry, _as_now(entry.trial.profile, start)) for entry in entries]
    known = [(entry, profile) for entry, profile in known if _source(profile) in allowed]
    lost = {signature(profile) for entry, profile in known if entry.has_lost(now)}
    winners = [(entry, profile) for entry, profile in known if entry.trial.outcome == "better"]
    # What won at the same says more than what won later at something else.
    won = [profile for entry, profile in winners if entry.measured_for == now] or [profile for _, profile in winners]
    if not won:
        return [], lost
    kept = {*fixed, *(() if aim.tries_kv_types else _QUALITY)} & TUNED
    best = msgspec.structs.replace(won[-1], **{key: getattr(start, key) for key in kept})
    changes = tuple(
        (key, getattr(best, key)) for key in Profile.__struct_fields__ if getattr(best, key) != getattr(start, key)
    )
    if not changes:
        return [], lost
    return [Move(changes, "an earlier tune ended with it", 2.0, cheap=False)], lost


def _as_now(tried: Profile, start: Profile) -> Profile:
    now = msgspec.structs.replace(start, **{key: getattr(tried, key) for key in TUNED - _TODAYS})
    return now if now.model else msgspec.structs.replace(now, model=start.model, quant=start.quant)


def _source(profile: Profile) -> Source:
    return profile.model, profile.quant

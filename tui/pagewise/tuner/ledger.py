"""Every trial on disk: what was tried of a model on this machine, and how it did."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from pagewise.jobs.tune import TUNED, Aim, Goal, Trial
from pagewise.settings import Profile
from pagewise.tuner.lines import add_line, read_lines, tune_folder
from pagewise.tuner.move import Move, signature

_LOSERS = ("worse", "dropped", "failed")
_QUALITY = ("cache_type_k", "cache_type_v")
Source = tuple[str, str | None]
"""The keys ``model`` and ``quant`` of a profile: which file it takes."""


class Entry(Struct, frozen=True):
    """One line of a ledger. A trial of the file that the tune began with has no ``model``: files are moved."""

    machine: str
    goal: Goal
    trial: Trial


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

    def keep(self, trial: Trial, start: Profile) -> None:
        """Add one of a tune that began with ``start``."""
        profile = trial.profile
        if _source(profile) == _source(start):
            profile = msgspec.structs.replace(profile, model="", quant=None)
        add_line(self.path, Entry(self._machine, self._goal, msgspec.structs.replace(trial, profile=profile)))

    def trials(self) -> list[Trial]:
        """Those of this machine and goal, oldest first."""
        return [
            entry.trial
            for entry in read_lines(self.path, Entry)
            if entry.machine == self._machine and entry.goal == self._goal
        ]


def begin_from(
    trials: list[Trial], start: Profile, aim: Aim, fixed: Collection[str] = (), others: Collection[Source] = ()
) -> tuple[list[Move], set[tuple[object, ...]]]:
    """Of earlier trials: the best one as the first move, and the signatures of those that lost.

    Keys that the person's profile sets apart from speed (context length, sampling, …) stay the profile's, and so do
    those that are ``fixed`` now. ``others``: files that may be taken beside the start's own.
    """
    allowed = {_source(start), *others}
    known = [(trial, _as_now(trial.profile, start)) for trial in trials]
    known = [(trial, profile) for trial, profile in known if _source(profile) in allowed]
    lost = {signature(profile) for trial, profile in known if trial.outcome in _LOSERS}
    won = [profile for trial, profile in known if trial.outcome == "better"]
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
    now = msgspec.structs.replace(start, **{key: getattr(tried, key) for key in TUNED})
    return now if now.model else msgspec.structs.replace(now, model=start.model, quant=start.quant)


def _source(profile: Profile) -> Source:
    return profile.model, profile.quant

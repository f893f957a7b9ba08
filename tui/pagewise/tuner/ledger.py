"""Every trial on disk: what was tried of a model on this machine, and how it did."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
import platformdirs
from msgspec import Struct

from pagewise.jobs.tune import TUNED, Aim, Goal, Trial
from pagewise.settings import Profile
from pagewise.tuner.move import Move, signature

_LOSERS = ("worse", "dropped", "failed")
_MOST_BYTES = 16 * 1024 * 1024


class Entry(Struct, frozen=True):
    """One line of a ledger."""

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
        self.path = (folder or platformdirs.user_state_path("pagewise") / "tune") / f"{name}.jsonl"
        self._machine, self._goal = machine, goal

    def keep(self, trial: Trial) -> None:
        """Add one, in one write: a kill in the middle leaves at most one line that is cut."""
        line = msgspec.json.encode(Entry(self._machine, self._goal, trial)) + b"\n"
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def trials(self) -> list[Trial]:
        """Those of this machine and goal, oldest first; lines that are cut or of another version are left out."""
        try:
            with self.path.open("rb") as file:
                lines = file.read(_MOST_BYTES).splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
                entry = msgspec.json.decode(line, type=Entry)
                if entry.machine == self._machine and entry.goal == self._goal:
                    found.append(entry.trial)
        return found


def begin_from(trials: list[Trial], start: Profile, aim: Aim) -> tuple[list[Move], set[tuple[object, ...]]]:
    """Of earlier trials: the best one as the first move, and the signatures of those that lost.

    Keys that the person's profile sets apart from speed (model, context length, sampling, …) stay the profile's.
    """
    lost = {signature(_as_now(trial.profile, start)) for trial in trials if trial.outcome in _LOSERS}
    won = [trial for trial in trials if trial.outcome == "better"]
    if not won:
        return [], lost
    best = _as_now(won[-1].profile, start)
    if not aim.kv_types:
        best = msgspec.structs.replace(best, cache_type_k=start.cache_type_k, cache_type_v=start.cache_type_v)
    changes = tuple(
        (key, getattr(best, key)) for key in Profile.__struct_fields__ if getattr(best, key) != getattr(start, key)
    )
    if not changes:
        return [], lost
    return [Move(changes, "an earlier tune ended with it", 2.0, cheap=False)], lost


def _as_now(tried: Profile, start: Profile) -> Profile:
    return msgspec.structs.replace(start, **{key: getattr(tried, key) for key in TUNED})

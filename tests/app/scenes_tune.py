"""A tune of a 7B model on a laptop, as it was told, event by event."""

from __future__ import annotations

from typing import Any

import msgspec

from app import scenes
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.tune import MEASURE, Aim, LastComparison, Trial, TrialBegun, TrialEnded, Tune, Tuned, TuneResumed
from pagewise.messages import Event, Failure

START = msgspec.structs.replace(scenes.LAPTOP, threads=16)
MIB = scenes.MIB
LOST = Failure(
    "The host has ended",
    "It was killed by signal 9 (SIGKILL): somebody, or the kernel for want of memory, ended it.",
    "Run `pagewise tune` again: it goes on from the trials that were made.",
)
NO_ROOM = Failure(
    "It does not fit on CUDA0",
    "It takes 9,804 MiB of the 7,410 MiB that are free there, and 0 MiB are to stay free.",
    "Fewer layers on the device would.",
)


def make(id: int) -> Tune:
    """What is asked for."""
    return Tune(id, START, Aim())


def make_in_place(id: int) -> Tune:
    """The same from a conversation."""
    return Tune(id, START, Aim("chat", 128, 48, 0), most_trials=12, in_place=True, fresh=True)


def _trial(number: int, outcome: str, changes: str, why: str, tpot: float, by: float, **more: Any) -> Trial:
    keys = dict([part.strip() for part in change.split(":")] for change in changes.split(", ") if change)
    values = {key: _value(text.rpartition(" ")[2]) for key, text in keys.items()}
    measured = {
        "ttft_ms": 8.6 * tpot,
        "tpot_ms": tpot,
        "cost": tpot,
        "gain": by,
        "low": 0.98 * by,
        "high": 1.02 * by,
        "pairs": 3,
        "memory_bytes": 5210 * MIB,
    }
    changed = tuple(change for change in changes.split(", ") if change)
    before = {"threads": 8} if number > 1 else {}
    profile = msgspec.structs.replace(START, **{**before, **values})
    return Trial(number, profile, changed, why, outcome, **{**measured, **more})  # type: ignore[arg-type]


def _value(text: str) -> int | str:
    return int(text) if text.isdigit() else text


TRIALS = (
    _trial(0, "start", "", "where you are", 41.0, 0.0, gain=None, low=None, high=None),
    _trial(
        1,
        "better",
        "threads: 16 → 8",
        "RAM bandwidth is saturated (91% of its peak): fewer threads wait less",
        33.1,
        1.24,
    ),
    _trial(
        2,
        "ruled out",
        "n_gpu_layers: 18 → all",
        "as many layers on the device as its memory holds",
        0.0,
        0.0,
        **dict.fromkeys(("ttft_ms", "tpot_ms", "cost", "gain", "low", "high", "memory_bytes")),
        pairs=0,
        failure=NO_ROOM,
    ),
    _trial(3, "better", "n_gpu_layers: 18 → 22", "more layers on the device", 27.9, 1.19, memory_bytes=5980 * MIB),
    _trial(
        4,
        "same",
        "threads_batch: 8 → 16",
        "prefill is arithmetic: it takes every core",
        27.8,
        1.002,
        memory_bytes=5980 * MIB,
    ),
    _trial(
        5,
        "dropped",
        "flash_attention: on → off",
        "attention would be done another way",
        36.4,
        0.77,
        memory_bytes=6410 * MIB,
    ),
)
NEXT = TrialBegun(1, 6, ("load_mode: auto → none",), "copied weights lie in huge pages where the kernel gives them")


def of(id: int, event: Any) -> Event:
    """The event as one of the tune that was asked for."""
    return msgspec.structs.replace(event, id=id)  # type: ignore[no-any-return]


def told(trials: int) -> list[Event]:
    """The first so many trials."""
    events: list[Event] = [JobProgress(1, MEASURE, 3, 0)]
    best = 0
    for trial in TRIALS[:trials]:
        best = trial.number if trial.outcome == "better" else best
        events.append(TrialEnded(1, trial, best, 15 - trial.number, 20.0 * (15 - trial.number)))
    return events


def running() -> list[Event]:
    """In the middle of it, on the ground of an earlier tune."""
    resumed = TuneResumed(1, 9, 4, ("threads: 16 → 8",))
    return [resumed, *told(6), NEXT, JobProgress(1, MEASURE, 2, 0)]


def result(best: int, gain: float = 1.0, low: float = 1.0, high: float = 1.0, *notes: str) -> Tuned:
    """How it ends."""
    reasons = tuple(
        f"{', '.join(trial.changes)}: {trial.gain:.2f}×, {trial.why}"
        for trial in TRIALS
        if trial.outcome == "better" and trial.number <= best and trial.gain
    )
    pairs = 5 if gain != 1.0 else 0
    return Tuned(1, TRIALS[0], TRIALS[best], TRIALS, gain, low, high, pairs, reasons if best else (), notes, 302.0)


GAINED = [*told(6), LastComparison(1, 5, 5), result(3, 1.462, 1.441, 1.483)]
UNTOUCHED = _trial(1, "same", "threads: 16 → 8", "fewer threads wait less for each other", 40.8, 1.004)
NOTHING = [*told(1), TrialEnded(1, UNTOUCHED, 0, 14, 250.0), result(0)]
NOISY = [
    *told(1),
    TrialEnded(1, UNTOUCHED, 0, 14, 250.0),
    result(
        0,
        1.004,
        0.951,
        1.060,
        "No difference can be told: 1.004× with an interval of 0.951 to 1.060, where two measurements of the same "
        "scatter by 6.2%. The start stays; on a quieter machine there may be more to find.",
        "Other programs kept 1.5 cores busy meanwhile: figures scatter by it.",
    ),
]
FAILED = [*told(4), JobFailed(1, LOST)]
STOPPED = [*told(4), JobFailed(1, Failure("Stopped", "You stopped it.", "Start it again."), cancelled=True)]

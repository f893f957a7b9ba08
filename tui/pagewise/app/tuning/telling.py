"""A tune in a line: what it goes on from, and what it came to for the conversation that it was asked from."""

from __future__ import annotations

from pagewise.app.figures import count
from pagewise.app.tuning.state import Tuning
from pagewise.app.visible import visible_line
from pagewise.jobs.tune import TuneResumed

_AS_IT_WAS = "everything is as it was"


def told(tuning: Tuning, used: bool, saved: str) -> str:
    """What it came to, and what became of that; nothing where it has not even measured the start.

    ``saved``: the name that it was saved under, or nothing.
    """
    if not tuning.trials:
        return ""
    trials = f"{count(tuning.tried)} trial{'s' if tuning.tried != 1 else ''}"
    if tuning.offered is None:
        ended = "Tune" if tuning.result is not None else "Tune stopped"
        return f"{ended}: nothing better was found in {trials}; {_AS_IT_WAS}."
    changes = visible_line(", ".join(change for trial in tuning.steps for change in trial.changes))
    result = tuning.result
    gain = f"{tuning.gain:.2f}× the start"
    if result is not None:
        gain += f" ({result.low:.2f} to {result.high:.2f})"
    else:
        gain = f"about {gain}, not measured again"
    kept = f"saved as {visible_line(saved)}" if saved else "not saved" if used else ""
    then = ", ".join(part for part in ("in force" if used else "not taken", kept) if part)
    return f"Tuned in {trials}: {changes}, {gain}; {then}."


def resumed_words(resumed: TuneResumed) -> str:
    """What earlier tunes have left to this one."""
    words = f"{count(resumed.trials)} trial{'s' if resumed.trials != 1 else ''} of earlier tunes"
    if resumed.lost:
        words += f"; {count(resumed.lost)} that lost {'are' if resumed.lost != 1 else 'is'} left out"
    if resumed.best:
        words += f"; what was best is tried first ({visible_line(', '.join(resumed.best))})"
    return words

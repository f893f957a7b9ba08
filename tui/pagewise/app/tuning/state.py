"""One tune, as far as it has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod

from pagewise.jobs.base import JobAnswer, JobFailed, JobNews, JobProgress
from pagewise.jobs.tune import (
    MEASURE,
    FixKey,
    LastComparison,
    TakeBest,
    Trial,
    TrialBegun,
    TrialEnded,
    Tune,
    Tuned,
    TuneResumed,
)
from pagewise.messages import Command, Failure


class Tuning:
    """What is known of a tune that was asked for. ``changed`` is called at each news; ``clock`` is in seconds."""

    def __init__(
        self,
        wanted: Tune,
        send: Callable[[Command], object],
        changed: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wanted = wanted
        self.trials: list[Trial] = []
        self.best = 0
        """The number of the best trial."""
        self.trials_left = wanted.most_trials
        self.phase = "starting"
        self.measures = False
        """Whether it measures now, and does not load, plan or wait."""
        self.resumed: TuneResumed | None = None
        """What earlier tunes have left to this one."""
        self.now: TrialBegun | None = None
        """What is being tried."""
        self.last: LastComparison | None = None
        """How far the last comparison with the start is."""
        self.result: Tuned | None = None
        self.failure: Failure | None = None
        self.cancelled = False
        self.stop_asked = False
        """The person has asked to stop it at once."""
        self.ending = False
        """The person has asked for the best so far."""
        self.fixed: list[str] = list(wanted.fixed)
        self._send, self._changed, self._clock = send, changed, clock
        self._began = self._told_at = clock()
        self._seconds_left: float | None = None
        self._took: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.result is not None or self.failure is not None

    @property
    def seconds(self) -> float:
        """Since it was asked for; of one that is over, until its end."""
        return self._clock() - self._began if self._took is None else self._took

    @property
    def seconds_left(self) -> float | None:
        """Until all trials are made, if the rest take as long as those before; None: nothing is known yet."""
        if self._seconds_left is None:
            return None
        return max(0.0, self._seconds_left - (self._clock() - self._told_at))

    @property
    def best_trial(self) -> Trial | None:
        """The best so far; at the end the one that was found."""
        if self.result is not None:
            return self.result.best
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def steps(self) -> list[Trial]:
        """The trials of which the best one is made, in order."""
        best = self.best_trial
        return [trial for trial in self.trials if trial.outcome == "better" and best and trial.number <= best.number]

    @property
    def gain(self) -> float:
        """How many times better than the start the best is: measured beside it, or what its steps come to."""
        return self.result.gain if self.result is not None else prod(trial.gain or 1.0 for trial in self.steps)

    @property
    def offered(self) -> Trial | None:
        """What can be used or saved, once it is over: what was found, or the best of a tune that did not get so far."""
        if self.result is not None:
            return self.result.best if self.result.is_new else None
        best = self.best_trial
        return best if self.over and best is not None and best.number else None

    @property
    def tried(self) -> int:
        """Trials that were measured."""
        return sum(trial.outcome not in ("start", "ruled out") for trial in self.trials)

    def news(self, event: JobNews) -> None:
        """Progress, or another trial."""
        match event:
            case TrialEnded():
                self.trials.append(event.trial)
                self.now = None
                self.best, self.trials_left, self._seconds_left = event.best, event.trials_left, event.seconds_left
                self._told_at = self._clock()
            case TrialBegun():
                self.now = event
            case LastComparison():
                self.now, self.last = None, event
            case TuneResumed():
                self.resumed = event
            case JobProgress():
                self.measures = event.phase == MEASURE
                if self.measures:
                    self.phase = f"measurement {event.done}"
                else:
                    self.phase = f"{event.phase} {100 * event.done // event.total} %" if event.total else event.phase
        self._changed()

    def answered(self, event: JobAnswer) -> None:
        """It is over."""
        self._took = self.seconds
        self.now = None
        if isinstance(event, Tuned):
            self.result = event
        elif isinstance(event, JobFailed):
            self.failure, self.cancelled = event.failure, event.cancelled
        self._changed()

    def take_best(self) -> None:
        """End it with the best so far."""
        if not self.over and not self.ending:
            self.ending = True
            self._send(TakeBest(self.wanted.id))
            self._changed()

    def fix(self, key: str) -> None:
        """Leave this key as it is from now on."""
        if not self.over and key not in self.fixed:
            self.fixed.append(key)
            self._send(FixKey(self.wanted.id, key))
            self._changed()

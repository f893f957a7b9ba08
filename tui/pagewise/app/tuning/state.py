"""One tune, as far as it has come."""

from __future__ import annotations

from collections.abc import Callable

from pagewise.jobs.base import JobAnswer, JobFailed, JobNews, JobProgress
from pagewise.jobs.tune import FixKey, TakeBest, Trial, TrialEnded, Tune, Tuned
from pagewise.messages import Command, Failure


class Tuning:
    """What is known of a tune that was asked for. ``changed`` is called at each news."""

    def __init__(self, wanted: Tune, send: Callable[[Command], object], changed: Callable[[], object]) -> None:
        self.wanted = wanted
        self.trials: list[Trial] = []
        self.best = 0
        """The number of the best trial."""
        self.trials_left = wanted.most_trials
        self.seconds_left: float | None = None
        self.phase = "starting"
        self.result: Tuned | None = None
        self.failure: Failure | None = None
        self.cancelled = False
        self.ending = False
        """The person has asked for the best so far."""
        self.fixed: list[str] = list(wanted.fixed)
        self._send, self._changed = send, changed

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.result is not None or self.failure is not None

    @property
    def best_trial(self) -> Trial | None:
        """The best so far; at the end the one that was found."""
        if self.result is not None:
            return self.result.best
        return next((trial for trial in self.trials if trial.number == self.best), None)

    def news(self, event: JobNews) -> None:
        """Progress, or another trial."""
        if isinstance(event, TrialEnded):
            self.trials.append(event.trial)
            self.best, self.trials_left, self.seconds_left = event.best, event.trials_left, event.seconds_left
        elif isinstance(event, JobProgress):
            share = f" {100 * event.done // event.total} %" if event.total else ""
            self.phase = event.phase + share
        self._changed()

    def answered(self, event: JobAnswer) -> None:
        """It is over."""
        if isinstance(event, Tuned):
            self.result = event
        elif isinstance(event, JobFailed):
            self.failure, self.cancelled = event.failure, event.cancelled
        self._changed()

    def take_best(self) -> None:
        """End it with the best so far."""
        if not self.over:
            self.ending = True
            self._send(TakeBest(self.wanted.id))
            self._changed()

    def fix(self, key: str) -> None:
        """Leave this key as it is from now on."""
        if not self.over and key not in self.fixed:
            self.fixed.append(key)
            self._send(FixKey(self.wanted.id, key))
            self._changed()

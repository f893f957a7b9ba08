"""One look into a repository of the hub, and one fetch from it: asked of the host, and followed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from pagewise.app.figures import rate, size
from pagewise.app.jobs import AskedJobs
from pagewise.app.visible import visible_line
from pagewise.failure import Failure
from pagewise.jobs.base import JobAnswer, JobFailed, JobProgress
from pagewise.jobs.pull import Brought, Offer, Offers, Pull, Pulled

_REFERENCE = re.compile(r"^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(\S*))?$", re.ASCII)


def reference(typed: str) -> tuple[str, str] | None:
    """(repository, quant) where what is typed has the form ``org/repo`` or ``org/repo:QUANT``."""
    match = _REFERENCE.match(typed.strip())
    return (match[1], match[2] or "") if match else None


class HubVisit:
    """``changed`` is called whenever there is something new to show."""

    def __init__(self, jobs: AskedJobs, changed: Callable[[], object]) -> None:
        self._jobs = jobs
        self._changed = changed
        self._job: int | None = None
        self._began: tuple[str, float, int] = ("", 0.0, 0)
        self._told: JobProgress | None = None
        self.repository = ""
        self.offers: Offers | None = None
        self.failure: Failure | None = None
        self.brought: Brought | None = None
        """What was fetched last."""
        self.stopped = False

    @property
    def busy(self) -> bool:
        """Whether the host is at it."""
        return self._job is not None

    def look(self, repository: str) -> None:
        """See what the repository has."""
        self._ask(repository, "", list_only=True)

    def fetch(self, offer: Offer) -> None:
        """Fetch one of its quant levels."""
        self._ask(self.repository, offer.files[0], list_only=False)

    def stop(self) -> None:
        """Stop; what was fetched is kept."""
        if self._job is not None:
            self._jobs.stop(self._job)

    def under_way(self) -> str:
        """What is being done, how far it is, and how fast."""
        told = self._told
        if told is None:
            return f"Asking the hub for {visible_line(self.repository)} …"
        words = [visible_line(told.phase)]
        if told.total:
            words.append(f"{100 * told.done // told.total} %")
            words.append(f"{size(told.done)} of {size(told.total)}")
        _, since, done = self._began
        passed = time.monotonic() - since
        if told.phase == "fetching" and passed > 1:
            words.append(rate((told.done - done) / passed))
        return " · ".join(words)

    def _ask(self, repository: str, quant: str, list_only: bool) -> None:
        self.repository, self.failure, self.stopped, self._told = repository, None, False, None
        self.brought = None
        self._job = self._jobs.ask(lambda id: Pull(id, repository, quant, list_only), self._answered, self._progressed)
        self._changed()

    def _progressed(self, progress: JobProgress) -> None:
        if progress.phase != self._began[0]:
            self._began = (progress.phase, time.monotonic(), progress.done)
        self._told = progress
        self._changed()

    def _answered(self, answer: JobAnswer) -> None:
        self._job = None
        if isinstance(answer, JobFailed):
            self.stopped = answer.cancelled
            self.failure = None if answer.cancelled else answer.failure
        elif isinstance(answer, Pulled):
            self.offers = answer.brought.offers
            if answer.brought.path is not None:
                self.brought = answer.brought
        self._changed()

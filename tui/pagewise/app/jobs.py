"""Jobs that were asked of the host from here: each answer goes to whoever asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pagewise.jobs.base import JobAnswer, JobNews, JobProgress
from pagewise.messages import Command, Event, JobCommand, Stop


class _Asked(NamedTuple):
    answered: Callable[[JobAnswer], object]
    progressed: Callable[[JobProgress], object]
    news: Callable[[JobNews], object]


class AskedJobs:
    """The jobs under way. ``send`` hands a command to the host; ``next_id`` gives ids that nothing else here has."""

    def __init__(self, send: Callable[[Command], object], next_id: Callable[[], int]) -> None:
        self._send = send
        self._next_id = next_id
        self._asked: dict[int, _Asked] = {}

    def ask(
        self,
        make: Callable[[int], JobCommand],
        answered: Callable[[JobAnswer], object],
        progressed: Callable[[JobProgress], object] = lambda progress: None,
        news: Callable[[JobNews], object] = lambda event: None,
    ) -> int:
        """Ask for the job that ``make`` builds of an id. ``answered`` is called once: JobFailed, or the kind's own.

        ``news`` hears what a kind tells besides its progress.
        """
        id = self._next_id()
        self._asked[id] = _Asked(answered, progressed, news)
        self._send(make(id))
        return id

    def tell(self, wish: Command) -> None:
        """Say something to a job that is under way."""
        self._send(wish)

    def stop(self, id: int) -> None:
        """Cancel job ``id``, if it is still under way; it ends with JobFailed(cancelled=True)."""
        if id in self._asked:
            self._send(Stop(id))

    def take(self, event: Event) -> bool:
        """Pass on what this event says; whether it was of a job that was asked for here."""
        match event:
            case JobProgress(id=id) if id in self._asked:
                self._asked[id].progressed(event)
            case JobNews(id=id) if id in self._asked:
                self._asked[id].news(event)
            case JobAnswer(id=id) if id in self._asked:
                self._asked.pop(id).answered(event)
            case _:
                return False
        return True

"""Plans of profiles, asked of the host one at a time: the one that is looked at first, the others when it is idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from pagewise.app.jobs import AskedJobs
from pagewise.jobs.base import JobAnswer, JobFailed
from pagewise.jobs.plan import MakePlan, MemoryPlan, Planned
from pagewise.messages import Failure
from pagewise.profiles.cost import LIVE
from pagewise.settings import Profile

DEBOUNCE_S = 0.2
"""How long nobody has typed before a plan is asked for."""
FRESH_S = 10.0
"""A plan older than this is asked for again when it is looked at: other processes take and give memory."""
_KEPT = 256
_PLAIN = Profile(name="-")


class Timer(Protocol):
    """Something that will happen."""

    def stop(self) -> None:
        """It will not."""


class Shown(NamedTuple):
    """What is known of a profile's memory now."""

    plan: MemoryPlan | None
    failure: Failure | None
    stale: bool
    """A newer figure is on its way; what is shown is of the profile before, or of an earlier moment."""


class _Known(NamedTuple):
    plan: MemoryPlan | None
    failure: Failure | None
    at_s: float


class Planner:
    """``later`` calls a function after so many seconds; ``changed`` is called when there is something new to see."""

    def __init__(
        self,
        jobs: AskedJobs,
        later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs, self._later, self._clock = jobs, later, clock
        self._known: dict[Profile, _Known] = {}
        self._asked: tuple[int, Profile] | None = None
        self._looked_at: Profile | None = None
        self._last: MemoryPlan | None = None
        self._others: list[Profile] = []
        self._timer: Timer | None = None

    def look(self, profile: Profile) -> None:
        """This profile is what the person looks at; what was waiting is not worth asking any more."""
        wanted = memory_of(profile)
        if wanted == self._looked_at and not self._old(wanted):
            return
        self._looked_at = wanted
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._old(wanted):
            self._timer = self._later(DEBOUNCE_S, self._due)

    def also(self, profiles: Iterable[Profile]) -> None:
        """These too, one after the other, when nothing else is wanted."""
        self._others = [memory for memory in map(memory_of, profiles) if self._old(memory)]
        self._go_on()

    def shown(self, profile: Profile) -> Shown:
        """What can be said of a profile. While its first plan is on its way, the last one looked at stands in."""
        wanted = memory_of(profile)
        known = self._known.get(wanted)
        if known is not None:
            return Shown(known.plan, known.failure, self._old(wanted))
        return Shown(self._last if wanted == self._looked_at else None, None, True)

    def forget(self) -> None:
        """Everything is different: another model is loaded, or memory was given back. Figures are stale from now."""
        self._known = {memory: known._replace(at_s=float("-inf")) for memory, known in self._known.items()}

    def leave(self) -> None:
        """Nobody looks any more."""
        self._others = []
        self._looked_at = None
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._asked is not None:
            self._jobs.stop(self._asked[0])

    def _old(self, memory: Profile) -> bool:
        known = self._known.get(memory)
        return known is None or self._clock() - known.at_s > FRESH_S

    def _due(self) -> None:
        self._timer = None
        self._go_on()

    def _go_on(self) -> None:
        """Ask for the next one. A plan that nobody looks at gives way; the host is asked for one at a time."""
        looked_at = self._looked_at
        waits = looked_at is not None and self._old(looked_at) and self._timer is None
        if self._asked is not None:
            if waits and self._asked[1] != looked_at:
                self._jobs.stop(self._asked[0])
            return
        if waits and looked_at is not None:
            self._ask(looked_at)
        elif self._timer is None and self._others:
            self._ask(self._others.pop(0))

    def _ask(self, memory: Profile) -> None:
        # The id is known only when it was sent, and the answer comes later than that.
        id = self._jobs.ask(lambda id: MakePlan(id, memory), self._answered)
        self._asked = (id, memory)

    def _answered(self, answer: JobAnswer) -> None:
        assert self._asked is not None
        _, memory = self._asked
        self._asked = None
        match answer:
            case Planned(plan=plan):
                self._keep(memory, _Known(plan, None, self._clock()))
                if memory == self._looked_at:
                    self._last = plan
            case JobFailed(cancelled=False, failure=failure):
                self._keep(memory, _Known(None, failure, self._clock()))
            case _:
                pass
        self._go_on()

    def _keep(self, memory: Profile, known: _Known) -> None:
        if len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[memory] = known


def memory_of(profile: Profile) -> Profile:
    """The profile with only what its memory depends on: two that differ in sampling have one plan."""
    return msgspec.structs.replace(profile, **{key: getattr(_PLAIN, key) for key in LIVE})

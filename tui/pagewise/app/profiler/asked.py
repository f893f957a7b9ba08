"""What was asked of the profiler, and what came of it: screens read it, the session keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable

from pagewise.messages import (
    Command,
    EngineLost,
    Event,
    Failure,
    Loaded,
    Operators,
    Prefill,
    ProfileOperators,
    ProfileStacks,
    Stacks,
    Tokens,
)
from pagewise.readings import OperatorProfile, StackProfile

SECONDS = (2.0, 5.0, 10.0, 30.0)
_LOST = Failure("The profile was not taken", "The engine ended.", "Ask again once the model is loaded.")


class Profiler:
    """At most one profile of each kind is under way. ``send`` hands a command to the host."""

    def __init__(self, send: Callable[[Command], object]) -> None:
        self.seconds = SECONDS[1]
        """How long a recording takes."""
        self.armed = False
        """The next reply is recorded."""
        self.recording: float | None = None
        """When the recording under way began, by ``time.monotonic``."""
        self.stacks: StackProfile | None = None
        self.stacks_failure: Failure | None = None
        self.asked_operators = False
        """A token will be profiled."""
        self.operators: OperatorProfile | None = None
        self.operators_failure: Failure | None = None
        self._send = send
        self._id = 0

    def arm(self) -> None:
        """Record once the engine works."""
        self.armed = self.recording is None

    def record(self, pid: int | None = None) -> None:
        """Record now; ``pid`` None: the engine."""
        if self.recording is None:
            self.armed = False
            self._id += 1
            self.recording = time.monotonic()
            self._send(ProfileStacks(self._id, pid, self.seconds))

    def longer(self, steps: int) -> None:
        """Another length for the next recording."""
        index = SECONDS.index(self.seconds) + steps
        self.seconds = SECONDS[max(0, min(index, len(SECONDS) - 1))]

    def profile_operators(self) -> None:
        """Profile the next token."""
        self._id += 1
        self.asked_operators = True
        self._send(ProfileOperators(self._id))

    def take(self, event: Event) -> bool:
        """Take what this event says; whether anything changed."""
        match event:
            case Prefill() | Tokens() if self.armed:
                self.record()
            case Stacks(profile=profile, failure=failure):
                self.recording = None
                self.stacks_failure = failure
                self.stacks = profile or self.stacks
            case Operators(profile=operators, failure=failure):
                self.asked_operators = False
                self.operators_failure = failure
                self.operators = operators or self.operators
            case EngineLost() if self.asked_operators:
                self.asked_operators = False
                self.operators_failure = _LOST
            case Loaded(change="model" | "process") if self.asked_operators:
                # Perhaps another engine, which has not been asked.
                self.profile_operators()
            case _:
                return False
        return True

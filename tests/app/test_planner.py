from __future__ import annotations

from collections.abc import Callable

import msgspec

from app import scenes, scenes_profiles
from pagewise.app.jobs import AskedJobs
from pagewise.app.profiles.planner import FRESH_S, Planner
from pagewise.jobs.base import JobFailed
from pagewise.jobs.plan import MakePlan, Planned
from pagewise.messages import Command, Failure, Stop
from pagewise.settings import Profile, Sampling

FAILURE = Failure("There is no file", "It is gone.", "Get it again.")
A = scenes.LAPTOP
B = msgspec.structs.replace(A, n_ctx=2048)
C = msgspec.structs.replace(A, n_ctx=1024)


class Later:
    """A timer that ends when the test says."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def stop(self) -> None:
        self.call = None


class Desk:
    """A planner with a host that answers when the test says, and a clock that stands still."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.timers: list[Later] = []
        self.now = 0.0
        self._ids = 0
        self.jobs = AskedJobs(self.sent.append, self._next_id)
        self.planner = Planner(self.jobs, self._later, lambda: self.now)

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _later(self, seconds: float, call: Callable[[], None]) -> Later:
        self.timers.append(Later(call))
        return self.timers[-1]

    def due(self) -> None:
        """All timers are due."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if timer.call is not None:
                timer.call()

    @property
    def asked(self) -> list[MakePlan]:
        return [command for command in self.sent if isinstance(command, MakePlan)]

    def answer(self, failure: Failure | None = None, cancelled: bool = False) -> None:
        """The host answers what was asked last."""
        last = self.asked[-1]
        if failure is not None:
            self.jobs.take(JobFailed(last.id, failure, cancelled))
        else:
            self.jobs.take(Planned(last.id, scenes_profiles.plan(last.profile, scenes.gpu())))


def test_only_the_last_of_what_is_typed_is_asked_for() -> None:
    desk = Desk()
    for profile in (A, B, C):
        desk.planner.look(profile)
    desk.due()
    assert [plan.profile.n_ctx for plan in desk.asked] == [1024]


def test_figures_of_the_former_profile_stand_in_and_are_stale() -> None:
    desk = Desk()
    desk.planner.look(A)
    desk.due()
    assert desk.planner.shown(A).plan is None and desk.planner.shown(A).stale
    desk.answer()
    assert not desk.planner.shown(A).stale
    desk.planner.look(B)
    shown = desk.planner.shown(B)
    assert shown.stale and shown.plan is not None and shown.plan.n_ctx == A.n_ctx
    desk.due()
    desk.answer()
    shown = desk.planner.shown(B)
    assert not shown.stale and shown.plan is not None and shown.plan.n_ctx == 2048


def test_profiles_that_differ_in_what_takes_no_memory_have_one_plan() -> None:
    desk = Desk()
    desk.planner.look(A)
    desk.due()
    desk.answer()
    cooler = msgspec.structs.replace(A, name="cooler", sampling=Sampling(temperature=0.1), threads=3)
    desk.planner.look(cooler)
    desk.due()
    assert len(desk.asked) == 1 and not desk.planner.shown(cooler).stale


def test_others_are_planned_one_after_the_other_and_give_way() -> None:
    desk = Desk()
    desk.planner.also([A, B])
    assert len(desk.asked) == 1
    desk.planner.look(C)
    desk.due()
    assert isinstance(desk.sent[-1], Stop)
    desk.answer(FAILURE, cancelled=True)
    assert desk.asked[-1].profile.n_ctx == 1024
    desk.answer()
    assert desk.asked[-1].profile.n_ctx == 2048


def test_what_cannot_be_planned_says_why_and_is_asked_again_later() -> None:
    desk = Desk()
    desk.planner.look(A)
    desk.due()
    desk.answer(FAILURE)
    assert desk.planner.shown(A).failure == FAILURE
    desk.planner.look(A)
    desk.due()
    assert len(desk.asked) == 1
    desk.now = FRESH_S + 1
    desk.planner.look(A)
    assert desk.planner.shown(A).stale
    desk.due()
    assert len(desk.asked) == 2


def test_another_model_makes_every_figure_stale() -> None:
    desk = Desk()
    desk.planner.look(A)
    desk.due()
    desk.answer()
    desk.planner.forget()
    assert desk.planner.shown(A).stale and desk.planner.shown(A).plan is not None


def test_nothing_is_asked_once_nobody_looks() -> None:
    desk = Desk()
    desk.planner.look(A)
    desk.planner.leave()
    desk.due()
    assert not desk.asked
    desk.planner.look(A)
    desk.due()
    desk.planner.leave()
    assert isinstance(desk.sent[-1], Stop)
    desk.answer(FAILURE, cancelled=True)
    assert len(desk.asked) == 1
    assert desk.planner.shown(Profile(name="x")).failure is None

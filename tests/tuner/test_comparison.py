"""One candidate beside the best one known: when it is dropped, and whose fault a failure is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pagewise.failure import Failure
from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim
from pagewise.settings import Profile
from pagewise.tuner.comparison import Compared, Quality, Taken, TrialFailed, compare
from pagewise.tuner.noise import Noise

BASE, CANDIDATE = Profile(name="base"), Profile(name="candidate", threads=4)
DIED = Failure("The engine ended", "Its last words: none.", "Try again.")


class Script:
    """Gives each side its own times, ``(ttft_ms, tpot_ms)``, one after the other and the last for ever."""

    def __init__(self, base: list[tuple[float, float]], candidate: list[tuple[float, float]]) -> None:
        self._times: dict[Profile, Iterator[tuple[float, float]]] = {}
        for profile, times in ((BASE, base), (CANDIDATE, candidate)):
            self._times[profile] = iter([*times, *[times[-1]] * 100])
        self.dies: dict[Profile, bool] = {}

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        if profile in self.dies:
            raise TrialFailed(DIED, is_lasting=self.dies[profile])
        ttft, tpot = next(self._times[profile])
        measured = Measured(0, int(ttft * 1e6), int(tpot * 1e6 * 10), int(ttft * 1e6), 100, 11)
        return Taken(measured, 1, 1, 512, True, None, None)

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        return None

    async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
        return None


def compared(script: Script, noise: Noise | None = None, aim: Aim | None = None, **more: Any) -> Compared:
    asked = aim or Aim()
    bound = asked.ttft_bound_ms
    never = lambda: False  # noqa: E731
    return asyncio.run(
        compare(script, BASE, CANDIDATE, asked, bound, noise or Noise(), cheap=True, is_over=never, **more)
    )


def noisy() -> Noise:
    noise = Noise()
    noise.begin([50.0, 55.0, 60.0, 65.0, 70.0, 58.0, 62.0, 53.0])
    return noise


def test_on_a_noisy_machine_one_bad_pair_drops_nothing() -> None:
    """The first measurement was unlucky, and what is better is found out."""
    script = Script([(500, 60)], [(500, 70), (500, 30)])
    assert compared(script, noisy()).pairs > 1
    assert compared(Script([(500, 60)], [(500, 70), (500, 30)]), noisy()).outcome == "better"


def test_on_a_quiet_machine_what_is_much_worse_is_dropped_after_one_pair() -> None:
    quiet = Noise()
    quiet.begin([60.0, 60.1, 59.9, 60.0, 60.1, 59.9, 60.0, 60.0])
    done = compared(Script([(500, 60)], [(500, 70)]), quiet)
    assert (done.outcome, done.pairs) == ("dropped", 1)
    # By the first guess of 3 % a pair has to be below 1 − 4 × 3 %.
    assert compared(Script([(500, 60)], [(500, 67)])).pairs == 2


def test_a_candidate_has_the_medians_of_what_was_measured() -> None:
    done = compared(Script([(500, 60)], [(500, 58), (520, 61), (505, 59), (510, 60), (900, 66)]), noisy())
    assert done.taken is not None and done.pairs == 5
    assert done.taken.measured.tpot_ms == pytest.approx(60)
    assert done.taken.measured.ttft_ms == pytest.approx(510)


def test_a_rate_is_no_excuse_for_a_first_token_beyond_the_persons_bound() -> None:
    bounded = Aim(ttft_bound_ms=600.0)
    done = compared(Script([(500, 60)], [(660, 20)]), aim=bounded)
    assert done.outcome == "worse" and "660 ms, later than --ttft 600 ms" in done.too_late
    assert compared(Script([(500, 60)], [(590, 20)]), aim=bounded).outcome == "better"
    # One late one among others is no median.
    once = Script([(500, 60)], [(590, 40), (900, 40), (590, 40)])
    assert compared(once, noisy(), aim=bounded).outcome == "better"


def test_where_the_best_so_far_breaks_the_bound_too_the_better_one_is_taken() -> None:
    assert compared(Script([(700, 60)], [(660, 40)]), aim=Aim(ttft_bound_ms=600.0)).outcome == "better"


def test_an_engine_that_dies_of_the_best_so_far_is_not_the_candidates_fault() -> None:
    script = Script([(500, 60)], [(500, 50)])
    script.dies = {BASE: True}
    done = compared(script)
    assert done.base_failed and not done.is_lasting
    assert done.failure is not None and "best one so far" in done.failure.what


@pytest.mark.parametrize("lasting", [True, False])
def test_a_failure_says_whether_it_would_come_again(lasting: bool) -> None:
    script = Script([(500, 60)], [(500, 50)])
    script.dies = {CANDIDATE: lasting}
    done = compared(script)
    assert (done.outcome, done.base_failed, done.is_lasting) == ("failed", False, lasting)

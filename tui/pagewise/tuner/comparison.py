"""One candidate beside the best one known: pairs of measurements until it is clear which is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from pagewise.bench.spread import Ratio
from pagewise.failure import Failure
from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim, Outcome
from pagewise.settings import Profile
from pagewise.tuner.cost import cost_ms
from pagewise.tuner.facts import Facts
from pagewise.tuner.noise import Noise

_DROPPED = 0.08
_CERTAINLY = 4.0
"""Standard deviations below which one pair alone is enough."""
_SIGHTS = 2
_ALIKE = 0.015
_WORTH = 0.015
_SOONER = 1.05
_PAIRS_CHEAP, _PAIRS_LOADED = 5, 3
_PATIENCE = 3


class TrialFailed(Exception):
    """This configuration could not be measured; others can."""

    def __init__(self, failure: Failure, *, is_lasting: bool = False) -> None:
        """``is_lasting``: it was refused, and would be again. An engine may die of what is over tomorrow."""
        super().__init__(failure.what)
        self.failure = failure
        self.is_lasting = is_lasting


class Taken(NamedTuple):
    """One measurement, and what was really in force for it."""

    measured: Measured
    threads: int
    threads_batch: int
    n_ubatch: int
    flash_attention: bool
    memory_bytes: int | None
    device_bytes: int | None
    facts: Facts | None = None
    """What is known with this configuration, where another file has changed it."""
    offloaded_layers: int | None = None
    """Layers that are really on devices, the output counted as one."""
    host_bytes: int | None = None
    """Weights that a token reads from RAM."""
    link_share: float | None = None
    """Of what the link to a device carries, what crossed it meanwhile; None: not measured."""


class Quality(NamedTuple):
    """What a configuration costs in quality."""

    kl: float | None
    """Mean KL divergence from the best there is, in nats; None: it could not be measured."""
    words: str
    """The same for the person, with how it was found out."""
    refused: Failure | None = None
    """Why it is ruled out, if it is."""


class Meter(Protocol):
    """Measures configurations: a real engine, or a recorded table of one."""

    async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Taken:
        """One sample. ``thorough``: with all of the aim's tokens, else with a part of them. Raises TrialFailed."""
        ...

    async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
        """Why it cannot fit, found without loading it; None if it may."""
        ...

    async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
        """What it costs in quality, measured where that is not known yet; None where it costs none."""
        ...


class Compared(NamedTuple):
    """How a candidate did."""

    outcome: Outcome
    gain: Ratio | None
    pairs: int
    taken: Taken | None
    """The candidate, with the medians of what was measured."""
    failure: Failure | None = None
    base_failed: bool = False
    """Whether it was the best one known that could not be measured."""
    is_lasting: bool = False
    """Of a failure: whether it would fail again."""
    too_late: str = ""
    """Why the person's bound of the time to the first token rules it out, if it does."""


async def compare(
    meter: Meter,
    best: Profile,
    candidate: Profile,
    aim: Aim,
    ttft_bound_ms: float | None,
    noise: Noise,
    *,
    cheap: bool,
    patient: bool = False,
    is_over: Callable[[], bool],
    on_pair: Callable[[int], Awaitable[None]] | None = None,
) -> Compared:
    """Measure the two in turns. A candidate that is much worse at first sight is dropped after one pair.

    ``patient``: up to three times as many pairs.
    """
    logs: list[float] = []
    sooner: list[float] = []
    most = (_PAIRS_CHEAP if cheap else _PAIRS_LOADED) * (_PATIENCE if patient else 1)
    bases: list[Taken] = []
    takens: list[Taken] = []
    gain: Ratio | None = None
    outcome: Outcome = "same"
    for pair in range(most):
        both: dict[bool, Taken] = {}
        # Turn about, so that neither side is always the one that comes after a change.
        for is_base in (False, True) if pair % 2 else (True, False):
            try:
                both[is_base] = await meter.measure(best if is_base else candidate, aim, False)
            except TrialFailed as error:
                failure = _of_the_best(error.failure) if is_base else error.failure
                return Compared("failed", gain, len(logs), None, failure, is_base, error.is_lasting and not is_base)
        base, taken = both[True], both[False]
        bases.append(base)
        takens.append(taken)
        logs.append(_log_ratio(cost_ms(aim, base.measured, ttft_bound_ms), cost_ms(aim, taken.measured, ttft_bound_ms)))
        sooner.append(_log_ratio(base.measured.ttft_ms or 0.0, taken.measured.ttft_ms or 0.0))
        gain = noise.interval(logs)
        outcome = _outcome(gain, len(logs), most, noise.sigma)
        if outcome != "same" or (_is_alike(gain) and not patient) or is_over():
            break
    noise.learn(logs)
    if outcome == "same" and aim.goal == "chat":
        first = noise.interval(sooner)
        if first.value >= _SOONER and first.low > 1.0:
            outcome = "better"
    late = too_late(aim, typical(bases).measured, typical(takens).measured)
    if late and outcome in ("better", "same"):
        outcome = "worse"
    return Compared(outcome, gain, len(logs), typical(takens), too_late=late)


def typical(taken: Sequence[Taken]) -> Taken:
    """The last of several measurements of the same, with the medians of their times."""
    times = {
        key: round(statistics.median(values)) if (values := _known(taken, key)) else None
        for key in ("prefill_ns", "decode_ns", "ttft_ns")
    }
    shares = [each.link_share for each in taken if each.link_share is not None]
    return taken[-1]._replace(
        measured=msgspec.structs.replace(taken[-1].measured, **times),
        link_share=statistics.median(shares) if shares else None,
    )


def too_late(aim: Aim, base: Measured, candidate: Measured) -> str:
    """What the person's own bound of the time to the first token says against a candidate; empty: nothing."""
    bound, first = aim.ttft_bound_ms, candidate.ttft_ms
    if aim.goal != "chat" or bound is None or first is None or first <= bound or (base.ttft_ms or 0.0) > bound:
        return ""
    return f"its first token comes after {first:,.0f} ms, later than --ttft {bound:,.0f} ms"


def _known(taken: Sequence[Taken], key: str) -> list[int]:
    return [value for each in taken if (value := getattr(each.measured, key)) is not None]


def _of_the_best(failure: Failure) -> Failure:
    return Failure("The best one so far failed beside it", f"{failure.what}: {failure.why}", failure.next)


def _outcome(gain: Ratio, pairs: int, most: int, sigma: float) -> Outcome:
    if pairs == 1:
        return "dropped" if gain.value < 1 - max(_DROPPED, _CERTAINLY * sigma) else "same"
    if pairs <= _SIGHTS and gain.value < 1 - _DROPPED and gain.high < 1.0:
        return "dropped"
    if gain.high < 1.0:
        return "worse"
    if gain.low > 1.0 and gain.value > 1 + _WORTH:
        return "better"
    # At the end of all pairs a likely gain is taken: the last comparison with the start decides whether it was one.
    if pairs == most and gain.value > 1 + _WORTH and gain.low > 0.99:
        return "better"
    return "same"


def _is_alike(gain: Ratio) -> bool:
    return gain.low > 1 - _ALIKE and gain.high < 1 + _ALIKE


def _log_ratio(base: float, candidate: float) -> float:
    return math.log(base / candidate) if base > 0 and candidate > 0 else 0.0

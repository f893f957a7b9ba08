"""From a start to the best configuration that few trials can find."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import msgspec

from pagewise.bench.spread import Ratio, paired_ratio
from pagewise.failure import Failure
from pagewise.jobs.tune import Aim, Trial
from pagewise.settings import Profile
from pagewise.tuner.comparison import Compared, Meter, Taken, TrialFailed, compare, too_late, typical
from pagewise.tuner.cost import bound_for, cost_ms
from pagewise.tuner.facts import Facts
from pagewise.tuner.move import Move, described, signature
from pagewise.tuner.moves import moves, remarks
from pagewise.tuner.noise import Noise, robust
from pagewise.tuner.standing import Standing

_FIRST_SAMPLES = 3
_LAST_PAIRS = 5
_MOST_LAST_PAIRS = 9
_SOONER = 1.05
_SEEMS_BETTER = 1.0
_UNEVEN = 1.25
_MORE_SAMPLES = 6
_MOST_ROUNDS, _PATIENCE_S = 5, 30.0
_TOO_NOISY = 0.4
"""Where the same configuration scatters by this share, no difference worth a change can be told in few pairs."""
_NOISY = 0.05
_MOST_BASE_FAILURES = 2
_PLACES = frozenset(
    {
        "n_gpu_layers", "tensor_overrides", "tensor_split", "split_mode", "main_gpu", "repack", "load_mode", "model",
        "quant", "placement",
    }
)  # fmt: skip
"""Keys that change where weights are: what was tried before such a change says little behind it."""
_QUALITY = frozenset({"model", "quant", "cache_type_k", "cache_type_v"})
"""Keys of which quality depends."""

_FIXED = Failure("It stays as it was", "You fixed it while it was measured.", "Start another tune to let it change.")


class Found(NamedTuple):
    """What a search ended with."""

    start: Trial
    best: Trial
    trials: tuple[Trial, ...]
    gain: Ratio
    """The best beside the start, measured again."""
    pairs: int
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    noise: float | None
    """Standard deviation of the log ratio of two measurements of the same; None as long as too few were taken."""


class Cannot(Exception):
    """There is nothing to search: the start itself cannot be measured."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class Wishes:
    """What the person asks for while a search goes on."""

    def __init__(self, fixed: Collection[str] = ()) -> None:
        self.fixed = set(fixed)
        """Keys that are not to be changed any more."""
        self.enough = False
        """End with the best so far."""


class Search:
    """Climbs from the start, one change at a time; the rules say which, and each is measured beside the best."""

    def __init__(
        self,
        meter: Meter,
        start: Profile,
        aim: Aim,
        facts: Facts,
        wishes: Wishes,
        on_trial: Callable[[Trial, Trial, int], None],
        *,
        most_trials: int = 15,
        most_seconds: float | None = None,
        first: Sequence[Move] = (),
        rejected: Collection[tuple[object, ...]] = (),
        only: Callable[[Move], bool] = lambda move: True,
        on_begin: Callable[[int, tuple[str, ...], str], None] = lambda number, changes, why: None,
        on_last: Callable[[int, int], None] = lambda pair, pairs: None,
        on_known: Callable[[Trial, bool], None] = lambda trial, is_lasting: None,
    ) -> None:
        """``on_trial`` is told each trial, the best so far and how many are left. ``first``: moves from earlier
        tunes, tried before all others; ``rejected``: signatures of profiles that lost in them. ``only``: whether a
        move may be tried at all. ``on_begin`` is told what is tried next, with its number, changes and reason;
        ``on_last`` each pair of the last comparison with the start, and how many there will be. ``on_known`` is told
        each trial that says something of its configuration, and whether one that failed would fail again.
        """
        self._on_begin, self._on_last, self._on_known = on_begin, on_last, on_known
        self._meter, self._aim, self._facts, self._wishes = meter, aim, facts, wishes
        self._on_trial = on_trial
        self._most_trials = most_trials
        self._until = None if most_seconds is None else time.monotonic() + most_seconds
        self._first = list(first)
        self._rejected = set(rejected)
        self._only = only
        self._noise = Noise()
        self._start_profile = start
        self._tried: set[tuple[tuple[str, object], ...]] = set()
        self._seen: set[tuple[object, ...]] = set()
        self._open: list[tuple[float, Move]] = []
        """Moves that seemed to help and could not be told from noise, with their gain: they get a longer look."""
        self._trials: list[Trial] = []
        self._bound: float | None = None
        self._base_failures = 0
        self._notes: list[str] = []
        """Why it ends before anything is found."""
        self._remarks: list[str] = []
        """What else is to be known of the start."""

    async def run(self) -> Found:
        """Raises Cannot."""
        start = await self._measure_start()
        best = start
        while not self._notes and self._count < self._most_trials and not self._is_over:
            move = self._next(best)
            if move is not None:
                best = await self._try(move, best)
            elif (move := self._longer_look(best)) is not None:
                best = await self._try(move, best, patient=True)
            else:
                break
            usual = self._noise.usual
            # A pair of measurements differs by √2 as much as one.
            if usual is not None and usual > math.sqrt(2) * _TOO_NOISY:
                self._notes.append(
                    "This machine is too noisy now to tell one configuration from another: two measurements of the "
                    f"same usually differ by a factor of {math.exp(usual):.1f}. The start stays; stop what else runs "
                    "here, and start again."
                )
        if self._notes:
            return self._found(start, start, Ratio(1.0, 1.0, 1.0), 0, [])
        return await self._verified(start, best)

    @property
    def _count(self) -> int:
        return sum(trial.outcome not in ("start", "ruled out") for trial in self._trials)

    @property
    def _is_over(self) -> bool:
        if self._base_failures >= _MOST_BASE_FAILURES:
            return True
        return self._wishes.enough or (self._until is not None and time.monotonic() > self._until)

    async def _measure_start(self) -> Trial:
        began = time.monotonic()
        refused = await self._meter.ruled_out(self._start_profile, self._aim)
        if refused is not None:
            raise Cannot(refused)
        try:
            # The first one has warmed the machine.
            taken = (await self._samples(_FIRST_SAMPLES))[1:]
            if _is_uneven(self._costs(taken)):
                taken += await self._samples(_MORE_SAMPLES)
            for _ in range(_MOST_ROUNDS):
                if _scatter(self._costs(taken)) <= _TOO_NOISY or time.monotonic() - began > _PATIENCE_S:
                    break
                # It may have been something that is over by now.
                taken = await self._samples(2 * _MORE_SAMPLES)
        except TrialFailed as error:
            raise Cannot(error.failure) from error
        self._look_at_spread(self._costs(taken))
        quality = await self._meter.quality(self._start_profile, self._aim)
        self._noise.begin(self._costs(taken))
        usual = typical(taken)
        self._bound = bound_for(self._aim, usual.measured)
        trial = self._trial(0, self._start_profile, (), "where you are", usual, time.monotonic() - began)
        trial = msgspec.structs.replace(trial, outcome="start", pairs=len(taken), kl=quality.kl if quality else None)
        self._standing = self._standing_of(trial, usual)
        self._remarks = remarks(self._standing, self._facts, self._aim)
        self._seen.add(signature(self._standing.in_force))
        self._tell(trial, trial)
        return trial

    async def _samples(self, count: int) -> list[Taken]:
        return [await self._meter.measure(self._start_profile, self._aim, False) for _ in range(count)]

    def _costs(self, taken: Sequence[Taken]) -> list[float]:
        return [cost_ms(self._aim, each.measured, None) for each in taken]

    def _look_at_spread(self, costs: Sequence[float]) -> None:
        """Where even the start cannot be measured, nothing that is found beside it would be more than chance."""
        scatter = _scatter(costs)
        if scatter > _TOO_NOISY:
            self._notes.append(
                "This machine is too noisy now to tell one configuration from another: the same one took "
                f"{min(costs):.3g} to {max(costs):.3g} ms in {len(costs)} measurements (a spread of {scatter:.0%}). "
                "Nothing was tried; stop what else runs here, and start again."
            )

    def _next(self, best: Trial) -> Move | None:
        earlier = [move for move in self._first if move.alters(best.profile)]
        self._first = []
        for move in [*earlier, *moves(self._standing, self._facts, self._aim)]:
            if move.changes in self._tried or signature(move.applied(best.profile)) in self._rejected:
                continue
            # What a profile leaves open counts as what it came to: on after auto that was on is nothing new.
            if signature(move.applied(self._standing.in_force)) in self._seen:
                continue
            if move.keys & self._wishes.fixed or not self._only(move):
                continue
            return move
        return None

    def _longer_look(self, best: Trial) -> Move | None:
        found = [each for each in self._open if not each[1].keys & self._wishes.fixed and each[1].alters(best.profile)]
        self._open = sorted(found, key=lambda each: each[0])
        return self._open.pop()[1] if self._open else None

    async def _try(self, move: Move, best: Trial, *, patient: bool = False) -> Trial:
        began = time.monotonic()
        profile = move.applied(best.profile)
        self._tried.add(move.changes)
        self._seen.add(signature(move.applied(self._standing.in_force)))
        changes = described(self._standing.in_force, move.changes)
        number = len(self._trials)
        self._on_begin(number, changes, move.why)
        refused = await self._meter.ruled_out(profile, self._aim)
        quality = await self._meter.quality(profile, self._aim) if refused is None else None
        refused = quality.refused if quality is not None else refused
        kl = quality.kl if quality is not None else None
        if refused is not None:
            trial = Trial(number, profile, changes, move.why, "ruled out", failure=refused, kl=kl)
            self._tell(trial, best)
            return best
        why = f"{move.why}; {quality.words}" if quality is not None and move.keys & _QUALITY else move.why
        done = await compare(
            self._meter,
            best.profile,
            profile,
            self._aim,
            self._bound,
            self._noise,
            cheap=move.cheap,
            patient=patient,
            is_over=lambda: self._wishes.enough or bool(move.keys & self._wishes.fixed),
        )
        trial = self._compared(number, profile, changes, why, done, time.monotonic() - began)
        trial = msgspec.structs.replace(trial, kl=kl)
        self._base_failures = self._base_failures + 1 if done.base_failed else 0
        if move.keys & self._wishes.fixed:
            trial = msgspec.structs.replace(trial, outcome="ruled out", failure=_FIXED)
        if trial.outcome == "better" and done.taken is not None:
            best = trial
            former = self._standing.in_force
            self._standing = self._standing_of(trial, done.taken)
            self._facts = done.taken.facts or self._facts
            if move.keys & _PLACES:
                self._tried.clear()
            # Back to what it was is nothing new, whatever else a profile leaves open follows it.
            self._tried.add(tuple((key, getattr(former, key)) for key, _ in move.changes))
        elif trial.outcome == "same" and not patient and done.gain is not None and done.gain.value > _SEEMS_BETTER:
            self._open.append((done.gain.value, move))
        self._tell(trial, best)
        if not done.base_failed and trial.outcome != "ruled out":
            self._on_known(trial, done.is_lasting)
        return best

    def _compared(
        self, number: int, profile: Profile, changes: tuple[str, ...], why: str, done: Compared, seconds: float
    ) -> Trial:
        why = f"{why}; {done.too_late}" if done.too_late else why
        trial = self._trial(number, profile, changes, why, done.taken, seconds)
        return msgspec.structs.replace(
            trial,
            outcome=done.outcome,
            gain=done.gain.value if done.gain else None,
            low=done.gain.low if done.gain else None,
            high=done.gain.high if done.gain else None,
            pairs=done.pairs,
            failure=done.failure,
        )

    def _trial(
        self, number: int, profile: Profile, changes: tuple[str, ...], why: str, taken: Taken | None, seconds: float
    ) -> Trial:
        if taken is None:
            return Trial(number, profile, changes, why, "failed", seconds=seconds)
        measured = taken.measured
        return Trial(
            number,
            profile,
            changes,
            why,
            "same",
            ttft_ms=measured.ttft_ms,
            tpot_ms=measured.tpot_ms,
            prefill_rate=measured.prefill_rate,
            cost=cost_ms(self._aim, measured, self._bound),
            memory_bytes=taken.memory_bytes,
            device_bytes=taken.device_bytes,
            seconds=seconds,
        )

    def _standing_of(self, trial: Trial, taken: Taken) -> Standing:
        return Standing(
            trial.profile,
            taken.threads,
            taken.threads_batch,
            taken.n_ubatch,
            taken.flash_attention,
            trial.tpot_ms,
            trial.ttft_ms,
            self._bound,
            taken.offloaded_layers,
            taken.host_bytes,
            taken.link_share,
        )

    def _tell(self, trial: Trial, best: Trial) -> None:
        self._trials.append(trial)
        self._on_trial(trial, best, max(0, self._most_trials - self._count))

    async def _verified(self, start: Trial, best: Trial) -> Found:
        if best is start:
            return self._found(start, start, Ratio(1.0, 1.0, 1.0), 0, self._what_could_be_told())
        taken: tuple[list[Taken], list[Taken]] = ([], [])
        unknown = Ratio(1.0, 0.0, float("inf"))
        # Two looks and no more: one at every pair would find a difference by chance sooner or later.
        for pairs in (_LAST_PAIRS, _MOST_LAST_PAIRS):
            while len(taken[0]) < pairs:
                self._on_last(len(taken[0]) + 1, pairs)
                both: dict[int, Taken] = {}
                # Turn about, so that neither side is always the one that comes after a change.
                for side in (1, 0) if len(taken[0]) % 2 else (0, 1):
                    try:
                        both[side] = await self._meter.measure((best if side else start).profile, self._aim, True)
                    except TrialFailed as error:
                        which = "The best one" if side else "The start"
                        note = f"{which} could not be measured again ({error.failure.what}): the start stays."
                        gain = paired_ratio(*map(self._bounded_costs, taken)) or Ratio(1.0, 1.0, 1.0)
                        return self._found(start, start, gain, len(taken[0]), [note])
                taken[0].append(both[0])
                taken[1].append(both[1])
            gain = paired_ratio(*map(self._bounded_costs, taken)) or unknown
            if gain.is_clear or self._wishes.enough:
                break
        pairs = len(taken[0])
        sooner = paired_ratio(*([each.measured.ttft_ms or 0.0 for each in side] for side in taken)) or unknown
        late = too_late(self._aim, typical(taken[0]).measured, typical(taken[1]).measured)
        if late:
            note = f"Measured again, the best one is ruled out ({late}): the start stays."
            return self._found(start, start, gain, pairs, [note], typical(taken[0]))
        if gain.high < 1.0:
            note = f"Measured again, the best one was no better ({gain.value:.3f}×): the start stays."
            return self._found(start, start, gain, pairs, [note], typical(taken[0]))
        if gain.is_clear:
            return self._found(start, best, gain, pairs, [], typical(taken[1]))
        if self._aim.goal == "chat" and sooner.low > 1.0 and sooner.value >= _SOONER:
            note = f"The rate is the same; the first token comes {sooner.value:.2f}× as soon."
            return self._found(start, best, gain, pairs, [note], typical(taken[1]))
        learned = self._noise.learned
        scatter = f", where two measurements of the same scatter by {learned:.1%}" if learned is not None else ""
        note = (
            f"No difference can be told: {gain.value:.3f}× with an interval of {gain.low:.3f} to {gain.high:.3f}"
            f"{scatter}. The start stays; on a quieter machine there may be more to find."
        )
        return self._found(start, start, gain, pairs, [note], typical(taken[0]))

    def _bounded_costs(self, taken: Sequence[Taken]) -> list[float]:
        return [cost_ms(self._aim, each.measured, self._bound) for each in taken]

    def _found(
        self, start: Trial, best: Trial, gain: Ratio, pairs: int, notes: list[str], again: Taken | None = None
    ) -> Found:
        """``again``: what ``best`` took in the last comparison, if there was one."""
        reasons = tuple(
            f"{', '.join(trial.changes)}: {trial.gain:.2f}×, {trial.why}"
            for trial in self._trials
            if trial.outcome == "better" and trial.gain is not None and trial.number <= best.number
        )
        if self._base_failures >= _MOST_BASE_FAILURES:
            notes = [*notes, "It was ended early: the engine failed with the best one known as well, twice in a row."]
        first = again.measured.ttft_ms if again is not None else best.ttft_ms
        notes = [*self._notes, *notes, *self._still_late(first), *self._remarks]
        return Found(start, best, tuple(self._trials), gain, pairs, reasons, tuple(notes), self._noise.learned)

    def _still_late(self, first_ms: float | None) -> list[str]:
        bound = self._aim.ttft_bound_ms
        if self._aim.goal != "chat" or bound is None or first_ms is None or first_ms <= bound:
            return []
        return [
            f"Even with the best one the first token comes after {first_ms:,.0f} ms, later than the {bound:,.0f} ms of "
            f"--ttft, for a message of {self._aim.n_prompt:,} tokens: a shorter one or a smaller quant would be sooner."
        ]

    def _what_could_be_told(self) -> list[str]:
        """Where nothing was found on a noisy machine: what there may be all the same."""
        sigma = self._noise.learned
        if sigma is None or sigma < _NOISY:
            return []
        least = self._noise.interval([0.0] * _LAST_PAIRS).high - 1
        return [
            f"Two measurements of the same differ by {sigma:.1%} here (standard deviation): gains below {least:.0%} "
            "cannot be told from chance. On a quieter machine there may be more to find."
        ]


def _is_uneven(costs: Sequence[float]) -> bool:
    return max(costs) > _UNEVEN * min(costs)


def _scatter(costs: Sequence[float]) -> float:
    """Standard deviation of the logarithms, from the median of their distances: some hiccups are no noise."""
    if len(costs) <= _MORE_SAMPLES or min(costs) <= 0:
        return 0.0
    logs = [math.log(cost) for cost in costs]
    middle = statistics.median(logs)
    return robust([log - middle for log in logs])

"""Runs the tuner's trials in an engine of its own, and keeps what they found."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from pagewise.guide.files import GuideError, guide_path
from pagewise.host.jobs.candidates import GUIDE, candidates
from pagewise.host.jobs.in_place import InPlace, to_its_end
from pagewise.host.jobs.job import Job, JobError
from pagewise.host.jobs.trial_meter import TrialMeter
from pagewise.host.jobs.tune_facts import facts_of, this_machine
from pagewise.host.jobs.tune_meter import LEAST_OUTPUT, EngineMeter
from pagewise.host.jobs.tune_quality import QualityMeter
from pagewise.host.jobs.tune_start import Begun, begin
from pagewise.host.jobs.yardstick import Refused, Yardstick
from pagewise.host.slot import EngineDied
from pagewise.instruments.devices import DevicesInstrument
from pagewise.instruments.other_load import OtherLoad
from pagewise.instruments.processor import processor_name
from pagewise.jobs.base import JobWish
from pagewise.jobs.tune import (
    Aim,
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
from pagewise.messages import ModelInfo
from pagewise.models.gguf import GgufError, read_header
from pagewise.settings import Profile
from pagewise.tuner.candidate import Candidate
from pagewise.tuner.facts import Facts
from pagewise.tuner.fatal import FatalSettings
from pagewise.tuner.ledger import Ledger, begin_from
from pagewise.tuner.move import Move, described
from pagewise.tuner.search import Cannot, Search, Wishes
from pagewise.tuner.starts import room_for

_BUSY_CORES = 0.25
"""Other programs that keep more than this busy are told of."""


async def run(command: Tune, job: Job) -> None:
    """Search, tell each trial, and end with Tuned. Raises JobError where even the start cannot be measured."""
    if command.in_place:
        await _in_place(command, job)
        return
    async with Yardstick(job) as yardstick:
        await _Tuning(command, job, yardstick).run()


async def _in_place(command: Tune, job: Job) -> None:
    """In the engine of the conversation: a message or a switch that is asked for meanwhile ends it at once."""
    this = asyncio.current_task()
    assert this is not None
    job.progress("waiting for the reply to end", 0, 0)
    async with job.lend(lambda: _leave(this)) as in_force:
        model = job.slot.model
        if in_force is None or model is None:
            raise JobError("There is nothing to tune", "No model is loaded.", "Choose a profile (F2).")
        place = InPlace(job, in_force, model)
        room = (model.n_ctx - command.aim.n_output) // 2
        if room < LEAST_OUTPUT:
            raise JobError(
                "There is no room to measure in",
                f"The context has {model.n_ctx:,} tokens, and the conversation takes nearly all of them.",
                "Begin a new conversation (^N), or set a larger n_ctx.",
            )
        aim = msgspec.structs.replace(command.aim, n_prompt=min(command.aim.n_prompt, room))
        wanted = msgspec.structs.replace(command, profile=in_force, aim=aim)
        try:
            await _Tuning(wanted, job, place).run()
        finally:
            with contextlib.suppress(Refused, EngineDied):
                await to_its_end(place.restore())


def _leave(task: asyncio.Task[None]) -> None:
    task.cancel()


class _Tuning:
    def __init__(self, command: Tune, job: Job, yardstick: Yardstick | InPlace) -> None:
        self._command, self._job, self._yardstick = command, job, yardstick
        self._wishes = Wishes(command.fixed)
        self._began = time.monotonic()
        self._told = 0
        self._ledger: Ledger | None = None
        self._meter = EngineMeter(yardstick, job)
        self._start = command.profile

    async def run(self) -> None:
        self._job.heed = self._on_wish
        if isinstance(self._yardstick, InPlace):
            assert self._yardstick.model is not None
            facts = facts_of(self._yardstick.model, self._command.aim, self._pid)
            await self._search(Begun(self._command.profile, (), None), facts, ())
            return
        await self._begin(self._yardstick)

    async def _begin(self, yardstick: Yardstick) -> None:
        """In an engine of its own, where other files and other placements can be tried too."""
        command, aim, meter = self._command, self._command.aim, self._meter
        self._job.progress("load", 0, 0)
        # What is known to kill an engine is known before the first load.
        meter.fatal = FatalSettings(processor_name(), await yardstick.library())
        start = room_for(command.profile, aim, yardstick.accelerators)
        files = await candidates(start, command.quants, self._job)
        with ExitStack() as stack:
            if len(files) > 1 or (files and aim.tries_kv_types):
                meter.costs = stack.enter_context(QualityMeter(yardstick, aim, files, _n_ctx_train(start)))
                await meter.costs.check()
            begun = await begin(yardstick, meter, start, aim, command.fixed, files)
            model = yardstick.model
            assert model is not None
            streamed = begun.plan.streamed_bytes if begun.plan is not None else None
            choice = files if len(files) > 1 else ()
            if choice:
                meter.facts_of = lambda model, streamed: facts_of(model, aim, self._pid, streamed, choice)
            facts = facts_of(model, aim, self._pid, streamed, choice)
            await self._search(begun, facts, files)

    async def _search(self, begun: Begun, facts: Facts, files: tuple[Candidate, ...]) -> None:
        command, job, start = self._command, self._job, begun.profile
        model = self._yardstick.model
        assert model is not None
        self._start = start
        self._ledger = _ledger(model, facts, command.aim)
        earlier = [] if command.fresh else self._ledger.entries()
        others = [each.source for each in files]
        first, rejected = begin_from(earlier, start, command.aim, command.fixed, others)
        if earlier:
            best = tuple(change for move in first for change in described(start, move.changes))
            job.send(TuneResumed(command.id, len(earlier), len(rejected), best))
        load = OtherLoad([self._pid]) if self._pid is not None else None
        instrument = DevicesInstrument()
        devices = (lambda: instrument.sample(self._pid).devices) if facts.devices else None
        search = Search(
            TrialMeter(self._meter, lambda: self._yardstick.model, devices),
            start,
            command.aim,
            facts,
            self._wishes,
            self._on_trial,
            most_trials=command.most_trials,
            most_seconds=command.most_seconds,
            first=first,
            rejected=rejected,
            only=_loads_nothing if command.in_place else lambda move: True,
            on_begin=self._on_begin,
            on_known=self._on_known,
            on_last=lambda pair, pairs: job.send(LastComparison(command.id, pair, pairs)),
        )
        try:
            found = await search.run()
        except Cannot as error:
            raise JobError(error.failure.what, error.failure.why, error.failure.next) from error
        job.send(
            Tuned(
                command.id,
                start=found.start,
                best=found.best,
                trials=found.trials,
                gain=found.gain.value,
                low=found.gain.low,
                high=found.gain.high,
                pairs=found.pairs,
                reasons=found.reasons,
                notes=(*begun.notes, *found.notes, *_busy(load)),
                seconds=time.monotonic() - self._began,
                noise=found.noise,
                aim=command.aim,
                begun_elsewhere=bool(begun.notes),
            )
        )

    @property
    def _pid(self) -> int | None:
        """The engine's process."""
        if isinstance(self._yardstick, Yardstick):
            return self._yardstick.pid
        engine = self._job.slot.engine
        return engine.pid if engine is not None else None

    def _on_wish(self, wish: JobWish) -> None:
        if isinstance(wish, FixKey):
            self._wishes.fixed.add(wish.key)
        elif isinstance(wish, TakeBest):
            self._wishes.enough = True

    def _on_begin(self, number: int, changes: tuple[str, ...], why: str) -> None:
        self._meter.taken = 0
        self._job.send(TrialBegun(self._command.id, number, changes, why))

    def _on_known(self, trial: Trial, is_lasting: bool) -> None:
        # In the conversation's engine much fails that a load of its own would not: the cache has to come along.
        if self._ledger is not None and not self._command.in_place:
            self._ledger.keep(trial, self._start, self._command.aim, is_lasting=is_lasting)

    def _on_trial(self, trial: Trial, best: Trial, left: int) -> None:
        passed = time.monotonic() - self._began
        self._told += 1
        seconds_left = left * passed / self._told
        self._job.send(TrialEnded(self._command.id, trial, best.number, left, seconds_left))


def _loads_nothing(move: Move) -> bool:
    """Whether the KV cache may come along too: without it one side would be measured at another depth. Of other types
    its cells would have to be rounded, and could not be had back.
    """
    return move.cheap and not move.keys & {"cache_type_k", "cache_type_v"}


def _n_ctx_train(profile: Profile) -> int:
    """Tokens that the model was trained for; 0 where that cannot be told."""
    try:
        path = guide_path() if profile.model == GUIDE else Path(profile.model).expanduser()
        header = read_header(path)
    except (GgufError, GuideError):
        return 0
    return header.number("context_length") or 0


def _busy(load: OtherLoad | None) -> tuple[str, ...]:
    cores = load.cores() if load is not None else None
    if cores is None or cores <= _BUSY_CORES:
        return ()
    return (f"Other programs kept {cores:.1f} cores busy meanwhile: figures scatter by it.",)


def _ledger(model: ModelInfo, facts: Facts, aim: Aim) -> Ledger:
    return Ledger(f"{model.name}|{model.architecture}|{model.quant}|{model.file_bytes}", this_machine(facts), aim.goal)

"""How good the tuner is: a grid measured exhaustively, then tuner, random search and TPE on that table, then the real
tuner beside the grid's best.

``python -m tests.bench.tune_grid record GRID.json`` takes some minutes on a machine with nothing else to do;
``simulate GRID.json`` takes seconds, and compares with TPE where optuna is installed; ``verify GRID.json`` runs the
real thing. The part ``tune`` of ``make bench`` does all three.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tests.bench.measure import Measurement, machine
from tests.bench.pairs import in_turns, median_interval
from tests.engine.harness import EngineProcess
from tests.synthetic import Shape, make_model
from tests.tuner.table import Cell, Grid, TableMeter, point_of, read_grid

from pagewise.client import HostClient
from pagewise.instruments.system import physical_cores
from pagewise.jobs.base import JobFailed
from pagewise.jobs.measure import Measure, Measured
from pagewise.jobs.tune import Aim, Trial, Tune, Tuned
from pagewise.messages import Loaded, LoadFailed
from pagewise.profiles.cost import change_class
from pagewise.settings import Profile, Sampling
from pagewise.tuner.facts import Facts
from pagewise.tuner.search import Search, Wishes

SHAPE = Shape(
    n_layer=16, n_embd=1024, n_ff=2816, n_head=16, n_head_kv=4, n_vocab=4096, weights="Q8_0", n_ctx_train=8192
)
AIM = Aim("chat", n_prompt=128, n_output=24, depth=128)
REPETITIONS = 4
MOST_TRIALS = 15
MOST_TIME = 0.2
WITHIN = 1.03


def axes() -> dict[str, list[Any]]:
    """64 configurations; what takes a reload changes least often."""
    cores = physical_cores()
    some = sorted({max(1, cores // 2), cores})
    return {
        "load_mode": ["auto", "none"],
        "flash_attention": ["on", "off"],
        "n_ubatch": [32, 64, 128, 256],
        "threads": some,
        "threads_batch": some,
    }


def start(model: Path) -> Profile:
    """Where a person begins: nothing set, and a micro-batch that is the default cut to the grid's prompts."""
    return Profile(
        name="start",
        model=str(model),
        n_ctx=2048,
        n_ubatch=axes()["n_ubatch"][-1],
        probe_every=0,
        repack="off",
        sampling=Sampling(temperature=0.0),
    )


def record(target: Path) -> None:
    """Measure every configuration, in an order that reloads seldom, and write the table."""
    model = make_model(SHAPE)
    names = list(axes())
    cells = []
    load_seconds: dict[str, float] = {}
    with EngineProcess() as engine:
        engine.hello()
        former: Profile | None = None
        loaded: Loaded | None = None
        for values in itertools.product(*axes().values()):
            keys = dict(zip(names, values, strict=True))
            profile = msgspec.structs.replace(start(model), **keys)
            change = "process" if former is None else change_class(former, profile)[0]
            began = time.monotonic()
            answer = engine.try_load(profile, change)
            if isinstance(answer, LoadFailed):
                cells.append(Cell(keys, (), 0.0))
                continue
            load_seconds[change] = max(load_seconds.get(change, 0.0), time.monotonic() - began)
            former, loaded = profile, answer
            samples = []
            measure(engine, 8)
            began = time.monotonic()
            for _ in range(REPETITIONS):
                taken = measure(engine, AIM.n_output)
                assert taken.ttft_ms is not None and taken.tpot_ms is not None
                samples.append((taken.ttft_ms, taken.tpot_ms))
            cells.append(Cell(keys, tuple(samples), time.monotonic() - began))
            first, each = (statistics.median(column) for column in zip(*samples, strict=True))
            print(f"{len(cells):>3} {keys}  TTFT {first:.0f} ms  TPOT {each:.2f} ms", flush=True)
        assert loaded is not None
        plain = engine.try_load(start(model), "model")
        assert isinstance(plain, Loaded)
        info = plain.model
    grid = Grid(
        machine=json.dumps(machine()),
        model=SHAPE.weights + f" {info.file_bytes / 1e6:.0f} MB",
        n_prompt=AIM.n_prompt,
        n_output=AIM.n_output,
        depth=AIM.depth,
        physical_cores=physical_cores(),
        logical_cores=os.cpu_count() or 1,
        bytes_per_token=info.bytes_per_token,
        kv_bytes_at_depth=info.kv_bytes_per_token * AIM.depth,
        model_bytes=info.file_bytes,
        flash_default=info.flash_attention,
        defaults={
            "threads": info.threads,
            "threads_batch": info.threads_batch,
            "flash_attention": "on" if info.flash_attention else "off",
        },
        cells=tuple(cells),
        load_seconds=load_seconds,
    )
    target.write_bytes(msgspec.json.encode(grid))


def measure(engine: EngineProcess, n_output: int) -> Measured:
    id = engine.next_id()
    engine.send(Measure(id, "chat", AIM.n_prompt, n_output, AIM.depth))
    event, _ = engine.until(lambda event: isinstance(event, Measured | JobFailed) and event.id == id)
    assert isinstance(event, Measured), event
    return event


class Truth:
    """What each configuration costs by the medians of the table for one who begins at ``begin``, and the best.

    The start decides how late a first token may come.
    """

    def __init__(self, grid: Grid, begin: Profile) -> None:
        self.meter = TableMeter(grid, 0)
        self.start = begin
        first = self._medians(dict(self.meter.point(self.start)), grid)
        bound = 1.1 * first[0]
        self.costs = {}
        for cell in grid.cells:
            if cell.samples:
                ttft, tpot = self._medians(cell.keys, grid)
                self.costs[cell.point] = tpot * max(1.0, ttft / bound)
        self.best = min(self.costs, key=lambda point: self.costs[point])
        self.exhaustive_s = sum(cell.seconds for cell in grid.cells)

    def _medians(self, keys: dict[str, Any], grid: Grid) -> tuple[float, float]:
        cell = next(cell for cell in grid.cells if cell.point == point_of(keys))
        ttfts, tpots = zip(*cell.samples, strict=True)
        return statistics.median(ttfts), statistics.median(tpots)

    def regret(self, profile: Profile) -> float:
        return self.costs[self.meter.point(profile)] / self.costs[self.best]


def facts(grid: Grid) -> Facts:
    return Facts(
        physical_cores=grid.physical_cores,
        logical_cores=grid.logical_cores,
        devices=(),
        n_layer=SHAPE.n_layer,
        is_mixture=False,
        bytes_per_token=grid.bytes_per_token,
        kv_bytes_at_depth=grid.kv_bytes_at_depth,
        repackable_bytes=0,
        model_bytes=grid.model_bytes,
        available_bytes=16 * grid.model_bytes + 4 * 1024**3,
        ram_peaks={},
    )


def by_tuner(grid: Grid, seed: int, begin: Profile) -> tuple[Profile, int, float]:
    """What the tuner finds, its trials and its seconds."""
    meter = TableMeter(grid, seed)
    search = Search(
        meter,
        begin,
        AIM,
        facts(grid),
        Wishes(),
        lambda trial, best, left: None,
        most_trials=MOST_TRIALS,
        only=lambda move: meter.holds(move, begin),
    )
    found = asyncio.run(search.run())
    return found.best.profile, sum(trial.outcome != "start" for trial in found.trials), meter.seconds


def by_random(grid: Grid, seed: int, begin: Profile) -> tuple[Profile, int, float]:
    """The best of as many configurations drawn at random, each measured three times."""
    source = random.Random(seed)
    draw = [dict(cell.point) for cell in source.sample(grid.cells, MOST_TRIALS)]
    return _best_of(grid, seed, begin, lambda number, tell: draw[number])


def by_tpe(grid: Grid, seed: int, begin: Profile) -> tuple[Profile, int, float]:
    """The tree-structured Parzen estimator of optuna, with its defaults, each configuration measured three times."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    choices = {key: sorted({cell.keys[key] for cell in grid.cells}, key=str) for key in grid.cells[0].keys}
    asked: list[Any] = []

    def ask(number: int, former: float | None) -> dict[str, Any]:
        if asked and former is not None:
            study.tell(asked[-1], former)
        trial = study.ask()
        asked.append(trial)
        return {key: trial.suggest_categorical(key, values) for key, values in choices.items()}

    return _best_of(grid, seed, begin, ask)


def _best_of(
    grid: Grid, seed: int, begin: Profile, ask: Callable[[int, float | None], dict[str, Any]]
) -> tuple[Profile, int, float]:
    meter = TableMeter(grid, seed)
    found, best, former = begin, float("inf"), None
    bound: float | None = None
    for number in range(-1, MOST_TRIALS):
        profile = begin if number < 0 else msgspec.structs.replace(begin, **ask(number, former))
        taken = [asyncio.run(meter.measure(profile, AIM, True)).measured for _ in range(3)]
        ttft = statistics.median(each.ttft_ms or 0.0 for each in taken)
        bound = bound or 1.1 * ttft
        cost = statistics.median(each.tpot_ms or 0.0 for each in taken) * max(1.0, ttft / bound)
        former = None if number < 0 else cost
        if cost < best:
            found, best = profile, cost
    return found, MOST_TRIALS, meter.seconds


class Searched(NamedTuple):
    """What one kind of search found in many runs on the table. ``regrets``: cost of what was found / of the best."""

    search: str
    start: str
    regrets: tuple[float, ...]
    trials: tuple[int, ...]
    shares: tuple[float, ...]
    """Time of each run / of the exhaustive measurement."""
    worse: int
    """Runs whose find is worse than their start by more than noise."""

    @property
    def near_pct(self) -> float:
        """How many runs came near enough to the best."""
        return 100 * sum(regret <= WITHIN for regret in self.regrets) / len(self.regrets)


SEARCHES: tuple[tuple[str, Callable[[Grid, int, Profile], tuple[Profile, int, float]]], ...] = (
    ("tuner", by_tuner),
    ("random search", by_random),
    ("TPE (optuna)", by_tpe),
)


def searches(grid: Grid, seeds: int) -> Iterator[Searched]:
    """Each search from the default start and from starts drawn at random. Without optuna there is no TPE."""
    default = start(Path("table.gguf"))
    truth = Truth(grid, default)
    for where in ("default", "random"):
        for name, search in SEARCHES:
            if search is by_tpe and importlib.util.find_spec("optuna") is None:
                continue
            regrets, trials, shares, worse = [], [], [], 0
            for seed in range(seeds):
                begin = default
                if where == "random":
                    keys = dict(random.Random(1000 + seed).choice(grid.cells).point)
                    begin = msgspec.structs.replace(begin, **keys)
                profile, count, taken = search(grid, seed, begin)
                here = truth if where == "default" else Truth(grid, begin)
                regrets.append(here.regret(profile))
                worse += regrets[-1] > 1.02 * here.regret(begin)
                trials.append(count)
                shares.append(taken / truth.exhaustive_s)
            yield Searched(name, where, tuple(regrets), tuple(trials), tuple(shares), worse)


def simulate(grid: Grid, seeds: int) -> None:
    """The table of the three searches."""
    truth = Truth(grid, start(Path("table.gguf")))
    print(f"{len(grid.cells)} configurations, {grid.model}, {grid.machine}")
    print(f"exhaustive: {truth.exhaustive_s:.0f} s; start {truth.regret(truth.start):.3f}× the best; best {truth.best}")
    print("| search | start | within 3 % of the best | median cost / best | worst | trials | time / exhaustive |")
    print("|---|---|---|---|---|---|---|")
    for found in searches(grid, seeds):
        print(
            f"| {found.search} | {found.start} | {found.near_pct:.0f} % of {seeds} "
            f"| {statistics.median(found.regrets):.3f} | {max(found.regrets):.3f} "
            f"| {statistics.median(found.trials):.0f} | {statistics.median(found.shares):.2f} |"
            + (f" worse than its start: {found.worse}" if found.worse else "")
        )


def measurements(grid_file: Path, seeds: int, pairs: int) -> Iterator[Measurement]:
    """The rows of ``make bench``: the searches on the table, and the real tuner beside the grid's best.

    The table is recorded into ``grid_file`` first if it is not there or comes from another machine.
    """
    grid = read_grid(grid_file) if grid_file.exists() else None
    if grid is None or json.loads(grid.machine)["cpu"] != machine()["cpu"]:
        print(f"recording the grid of {len(list(itertools.product(*axes().values())))} configurations", flush=True)
        grid_file.parent.mkdir(parents=True, exist_ok=True)
        record(grid_file)
        grid = read_grid(grid_file)
    size = f"{len(grid.cells)} configurations, {seeds} runs on their table"
    for found in searches(grid, seeds):
        is_ours = found.search == "tuner"
        where = f"{found.search}, {'start drawn at random' if found.start == 'random' else 'default start'}"
        yield Measurement(
            f"{where}: within 3 % of the grid's best", "% of runs", (found.near_pct,), 90.0 if is_ours else None,
            "at least", note=size,
        )  # fmt: skip
        if is_ours:
            yield Measurement(f"{where}: most trials", "", (float(max(found.trials)),), MOST_TRIALS)
            yield Measurement(f"{where}: longest time / exhaustive", "×", (max(found.shares),), MOST_TIME)
            yield Measurement(f"{where}: worse than its start", "% of runs", (100 * found.worse / seeds,), 0.0)
    ran = verified(grid, pairs)
    what = f"{grid.model}, {pairs} pairs"
    yield Measurement(
        "TPOT of what the tuner found / of the grid's best", "×", ran.ratios, WITHIN, note=what, paired=True
    )
    yield Measurement("trials of the real tuner", "", (float(ran.trials),), MOST_TRIALS)
    yield Measurement("time of the real tuner / exhaustive", "×", (ran.share,), MOST_TIME)


class Verified(NamedTuple):
    """The real tuner: TPOT of what it found / of the grid's best in pairs, its trials, its time / exhaustive."""

    tuned: Tuned
    ratios: tuple[float, ...]
    trials: int
    seconds: float
    share: float


def verified(grid: Grid, pairs: int) -> Verified:
    """Run the real tuner, then what it found beside the grid's best in pairs whose order is swapped."""
    truth = Truth(grid, start(Path("table.gguf")))
    model = make_model(SHAPE)
    fixed = tuple(set(Profile.__struct_fields__) - set(grid.cells[0].keys) - {"n_batch"})
    began = time.monotonic()
    tuned = asyncio.run(_tune(Tune(1, start(model), AIM, fixed, MOST_TRIALS, fresh=True)))
    seconds = time.monotonic() - began
    best = msgspec.structs.replace(start(model), **dict(truth.best))
    with EngineProcess() as engine:
        engine.hello()
        former: Profile | None = None

        def tpot(profile: Profile) -> float:
            nonlocal former
            change = "process" if former is None else change_class(former, profile)[0]
            if change != "none":
                assert isinstance(engine.try_load(profile, change), Loaded)
            former = profile
            measure(engine, 8)
            return measure(engine, AIM.n_output).tpot_ms or 0.0

        ratios = in_turns(lambda: tpot(tuned.best.profile), lambda: tpot(best), pairs)
    return Verified(tuned, tuple(ratios), len(tuned.trials) - 1, seconds, seconds / truth.exhaustive_s)


def verify(grid: Grid, pairs: int) -> None:
    """What the real tuner does, trial by trial, and what it is worth."""
    ran = verified(grid, pairs)
    for trial in ran.tuned.trials:
        print(_line(trial))
    found = ran.tuned.best.profile
    print(f"found {found.threads=} {found.n_ubatch=} {found.flash_attention=} {found.load_mode=}")
    print(f"gain over the start {ran.tuned.gain:.3f} ({ran.tuned.low:.3f} to {ran.tuned.high:.3f})")
    low, high = median_interval(ran.ratios)
    print(
        f"TPOT of what was found / of the grid's best: {statistics.median(ran.ratios):.3f} ({low:.3f} to {high:.3f}), "
        f"{pairs} pairs"
    )
    print(f"{ran.trials} trials, {ran.seconds:.0f} s = {ran.share:.2f} of the exhaustive time")


def _line(trial: Trial) -> str:
    gain = f"{trial.gain:.3f}" if trial.gain is not None else ""
    what = ", ".join(trial.changes)
    return f"{trial.number:>3} {trial.outcome:9} {what} {gain} TPOT {trial.tpot_ms} {trial.seconds:.1f} s"


async def _tune(command: Tune) -> Tuned:
    client = HostClient()
    await client.start()
    try:
        client.send(command)
        async for event in client.events():
            if isinstance(event, Tuned):
                return event
            if isinstance(event, JobFailed):
                raise SystemExit(f"{event.failure.what} {event.failure.why}")
    finally:
        await client.close()
    raise SystemExit("the host has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["record", "simulate", "verify"])
    parser.add_argument("grid", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    if options.what == "record":
        record(options.grid)
    elif options.what == "simulate":
        simulate(read_grid(options.grid), options.seeds)
    else:
        verify(read_grid(options.grid), options.pairs)


if __name__ == "__main__":
    sys.exit(main())

"""The layer clock against what it is to explain: an unprobed difference of two models, and runs without the probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean, median

from tests.bench.measure import Measurement
from tests.engine.harness import EngineProcess, Reply, profile
from tests.synthetic import Shape, make_model

from pagewise.readings import LayerClock, TurnTiming
from pagewise.settings import Sampling

SHAPE = Shape(n_layer=4, n_embd=3072, n_ff=8192, n_head=24, n_head_kv=8, n_vocab=4096, weights="Q8_0")
"""Far larger than any cache: else a heavy layer makes its neighbours slower, and that is not its share."""
HEAVY = 2
"""This layer's matrices are F32: four times the bytes of the others."""
TOKENS = 48
EVERY = 4


def share(threads: int, runs: int) -> Iterator[Measurement]:
    """What the clock says a heavy layer adds to a token, against what it adds where nothing is probed.

    Both as a share of their own token. The models take turns: plain, heavy, heavy, plain; then the heavy one probed.
    """
    light, heavy = make_model(SHAPE), make_model(replace(SHAPE, heavy_layer=HEAVY))
    unprobed, probed, sums = [], [], []
    with EngineProcess() as engine:
        for _ in range(runs):
            tpot: dict[bool, list[float]] = {False: [], True: []}
            for path, is_heavy in ((light, False), (heavy, True), (heavy, True), (light, False)):
                tpot[is_heavy].append(_tpot(_reply(engine, path, threads, 0)))
            clocks = [event.clock for event in _reply(engine, heavy, threads, EVERY).layers]
            unprobed.append(100 * (1 - fmean(tpot[False]) / fmean(tpot[True])))
            probed.append(100 * _added(clocks))
            sums.append(100 * median(sum(clock.ms) for clock in clocks) / fmean(tpot[True]))
    note = f"layer {HEAVY} of {SHAPE.n_layer} with four times the bytes"
    yield Measurement("what a heavy layer adds to a token, by the layer clock", "%", tuple(probed), note=note)
    yield Measurement("the same without a probe, by two models", "%", tuple(unprobed), note=note)
    apart = 100 * abs(median(probed) / median(unprobed) - 1)
    yield Measurement("layer clock against two models", "% apart", (apart,), 10.0)
    yield Measurement("sum of the layers / an unprobed token of the same model", "%", tuple(sums))


def _added(clocks: list[LayerClock]) -> float:
    """What the heavy layer takes more than the others, as a share of the token."""
    heavy = clocks[0].names.index(str(HEAVY))
    others = [index for index, name in enumerate(clocks[0].names) if name.isdigit() and index != heavy]
    extra = median(clock.ms[heavy] - median(clock.ms[index] for index in others) for clock in clocks)
    return extra / median(clock.total_ms for clock in clocks)


def probe_cost(threads: int, runs: int) -> Iterator[Measurement]:
    """The cost that a reply names, against paired runs with the probe off, in ABBA order."""
    model = make_model(SHAPE)
    named, paired = [], []
    with EngineProcess() as engine:
        for _ in range(runs):
            rates: dict[int, list[float]] = {0: [], EVERY: []}
            for every in (0, EVERY, EVERY, 0):
                timing = _timing(_reply(engine, model, threads, every))
                rates[every].append(timing.tpot_ms or 0.0)
                if timing.probe_cost_pct is not None:
                    named.append(timing.probe_cost_pct)
            paired.append(100 * (1 - fmean(rates[0]) / fmean(rates[EVERY])))
    note = f"1 token in {EVERY}"
    yield Measurement("probe cost, as the reply names it", "% of TPOT", tuple(named), note=note)
    yield Measurement("probe cost, against runs with the probe off", "% of TPOT", tuple(paired), note=note)
    apart = abs(median(named) - median(paired))
    yield Measurement("probe cost, named against paired", "points apart", (apart,), 2.0, note=note)


def _reply(engine: EngineProcess, model: object, threads: int, every: int) -> Reply:
    """A warm reply; a probe that is switched on or off needs no load, another model does."""
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS)
    wanted = profile(str(model), threads=threads, probe_every=every, sampling=sampling)
    engine.load(wanted, "model" if engine.seen else "process")
    engine.generate("warm up", Sampling(temperature=0.0, max_tokens=8))
    return engine.generate("hello")


def _timing(reply: Reply) -> TurnTiming:
    assert reply.finished.timing is not None
    return reply.finished.timing


def _tpot(reply: Reply) -> float:
    tpot = _timing(reply).tpot_ms
    assert tpot is not None
    return tpot

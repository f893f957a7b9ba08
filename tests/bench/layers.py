"""The layer clock against what it is to explain: an unprobed difference of two models, and runs without the probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

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
_PAIR_TOKENS = 24
_ALTERNATING = 2
"""Every second token of the heavy model is probed: its neighbours say what it takes without."""
_PAIRS_OF_A_RUN = 6
_SETTLING = 2
"""Gaps at the beginning of a reply that do not count."""


class Pair(NamedTuple):
    """One reply of each model, one right after the other. Shares of a token, and times in ms."""

    clock: float
    """What the heavy layer adds to its token, by the layer clock."""
    models: float
    """The same by the tokens that were not probed, of both models."""
    probed_ms: float
    """Sum of the layers of a probed token."""
    unprobed_ms: float
    """A token of the heavy model that was not probed."""
    page_ins: int


def share(threads: int, runs: int) -> Iterator[Measurement]:
    """What the clock says a heavy layer adds to a token, against what it adds where nothing is probed.

    Both models stay loaded, each in an engine of its own, and answer in turns of a second: plain, heavy; heavy, plain.
    A pair stands for itself, so that what the machine does to one second it does to both sides of the ratio. Medians of
    single tokens: one that lost its time slice says nothing of a layer. Pairs that read from disk do not count.
    """
    light, heavy = make_model(SHAPE), make_model(replace(SHAPE, heavy_layer=HEAVY))
    pairs: list[Pair] = []
    with EngineProcess() as plain, EngineProcess() as loaded:
        for engine, path, every in ((plain, light, 0), (loaded, heavy, _ALTERNATING)):
            sampling = Sampling(temperature=0.0, max_tokens=_PAIR_TOKENS)
            engine.load(profile(path, threads=threads, probe_every=every, repack="off", sampling=sampling))
            engine.generate("warm up")
        for number in range(runs * _PAIRS_OF_A_RUN):
            if number % 2:
                with_heavy = loaded.generate("hello")
                without = plain.generate("hello")
            else:
                without = plain.generate("hello")
                with_heavy = loaded.generate("hello")
            pairs.append(_pair(without, with_heavy))
    counted = [pair for pair in pairs if not pair.page_ins] or pairs
    note = f"layer {HEAVY} of {SHAPE.n_layer} with four times the bytes"
    clocks, models = tuple(100 * pair.clock for pair in counted), tuple(100 * pair.models for pair in counted)
    yield Measurement("what a heavy layer adds to a token, by the layer clock", "%", clocks, note=note)
    yield Measurement("the same without a probe, by two models", "%", models, note=note)
    ratios = tuple(pair.clock / pair.models for pair in counted)
    yield Measurement("layer clock / two models", "×", ratios, 0.10, "off 1 by at most", paired=True)
    sums = tuple(pair.probed_ms / pair.unprobed_ms for pair in counted)
    yield Measurement("sum of the layers / an unprobed token of the same reply", "×", sums)


def _pair(without: Reply, with_heavy: Reply) -> Pair:
    clocks = [event.clock for event in with_heavy.layers if event.clock.token > _SETTLING]
    probed = {event.clock.token for event in with_heavy.layers}
    # Token n ends gap n - 1.
    unprobed = [gap for token, gap in enumerate(_gaps(with_heavy), 1) if token not in probed and token > _SETTLING]
    plain = _gaps(without)[_SETTLING:]
    return Pair(
        clock=_added(clocks),
        models=1 - median(plain) / median(unprobed),
        probed_ms=median(sum(clock.ms) for clock in clocks),
        unprobed_ms=median(unprobed),
        page_ins=sum(sum(clock.stalls) for clock in clocks),
    )


def _gaps(reply: Reply) -> tuple[float, ...]:
    return _timing(reply).itl_ms


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


def _reply(engine: EngineProcess, model: Path, threads: int, every: int) -> Reply:
    """A warm reply; a probe that is switched on or off needs no load, another model does."""
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS)
    wanted = profile(model, threads=threads, probe_every=every, sampling=sampling)
    engine.load(wanted, "model" if engine.seen else "process")
    engine.generate("warm up", Sampling(temperature=0.0, max_tokens=8))
    return engine.generate("hello")


def _timing(reply: Reply) -> TurnTiming:
    assert reply.finished.timing is not None
    return reply.finished.timing

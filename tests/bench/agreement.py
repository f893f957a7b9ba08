"""The bare rates of ``pagewise bench`` beside ``llama-bench`` on the very same libraries, in short alternating pairs.

Both evaluate the same number of random tokens behind the same depth, with the same threads, batches, flash attention
and KV types, repacking off, each after a warm-up of its own. The engine is a new one after a few pairs, because where
its buffers lie in memory is drawn once for each process, as ``llama-bench`` draws it in each run.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from tests.bench.measure import Measurement
from tests.bench.pairs import in_turns
from tests.engine.harness import EngineProcess, profile

from pagewise.jobs.base import JobFailed
from pagewise.jobs.measure import Measure, Measured

WITHIN = 0.02
N_BATCH, N_UBATCH = 512, 256
PAIRS_OF_AN_ENGINE = 5


class Rate(NamedTuple):
    """One bare rate: so many tokens behind a depth."""

    test: Literal["prefill", "decode"]
    tokens: int
    depth: int

    @property
    def name(self) -> str:
        return f"{'pp' if self.test == 'prefill' else 'tg'}{self.tokens}" + (f" @ d{self.depth}" if self.depth else "")


RATES = (Rate("prefill", 256, 0), Rate("decode", 24, 0), Rate("prefill", 256, 512), Rate("decode", 24, 512))
OF_SMALL = (Rate("prefill", 512, 0), Rate("decode", 256, 0))
"""For a model whose token takes less than a millisecond: there what surrounds llama.cpp would show first."""


def ours(engine: EngineProcess, rate: Rate) -> float:
    """Tokens a second by the yardstick of ``pagewise bench``, after the same warm-up as ``llama-bench`` makes."""
    _measured(engine, rate._replace(depth=0, tokens=rate.tokens if rate.test == "prefill" else 1))
    _measured(engine, rate._replace(tokens=1))
    taken = _measured(engine, rate)
    return 1e9 * rate.tokens / (taken.prefill_ns or taken.decode_ns or 0)


def _measured(engine: EngineProcess, rate: Rate) -> Measured:
    id = engine.next_id()
    prompt, output = (rate.tokens, 0) if rate.test == "prefill" else (0, rate.tokens)
    engine.send(Measure(id, rate.test, prompt, output, rate.depth))
    event, _ = engine.until(lambda event: isinstance(event, Measured | JobFailed) and event.id == id)
    assert isinstance(event, Measured), event
    return event


def theirs(tool: Path, model: Path, threads: int, rate: Rate) -> float:
    """Tokens a second by one run of ``llama-bench``: its load and its warm-up do not count."""
    prompt, output = (rate.tokens, 0) if rate.test == "prefill" else (0, rate.tokens)
    options = {"-m": model, "-p": prompt, "-n": output, "-d": rate.depth, "-t": threads, "-b": N_BATCH, "-ub": N_UBATCH}
    options |= {"-fa": "on", "-r": 1, "-o": "json", "--repack": 0}
    command = [str(tool), *(str(word) for option in options.items() for word in option)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout)[-1]["avg_ts"])


def rates(
    tool: Path, model: Path, threads: int, pairs: int, note: str, which: tuple[Rate, ...] = RATES
) -> Iterator[Measurement]:
    """Ratio ours / llama-bench of each bare rate of ``which``. ``note``: what the model is."""
    settings = profile(
        model, threads=threads, n_ctx=1024, n_batch=N_BATCH, n_ubatch=N_UBATCH, repack="off", flash_attention="on"
    )
    ratios: dict[Rate, list[float]] = {rate: [] for rate in which}
    while (done := min(len(found) for found in ratios.values())) < pairs:
        with EngineProcess() as engine:
            engine.hello()
            engine.load(settings)
            for rate in which:
                ratios[rate] += in_turns(
                    lambda rate=rate: ours(engine, rate),
                    lambda rate=rate: theirs(tool, model, threads, rate),
                    min(PAIRS_OF_AN_ENGINE, pairs - done),
                )
    for rate, found in ratios.items():
        what = f"pagewise bench / llama-bench, {rate.name}"
        yield Measurement(what, "×", tuple(found), WITHIN, "off 1 by at most", note, paired=True)

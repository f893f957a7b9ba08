"""Decode rate through the whole program beside ``llama-bench`` on the very same libraries, in alternating pairs."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Measurement
from tests.bench.screen import home, replies, running, wait_finished
from tests.engine.harness import EngineProcess, profile

from pagewise.readings import TurnTiming
from pagewise.settings import Sampling

TOKENS = 64
LONG = "the quick brown fox jumps over the lazy dog and goes on to the next hill " * 24


def ours(model: Path, threads: int, probe_every: int) -> TurnTiming:
    """The timing of one warm reply of ``TOKENS`` tokens, chat pane and gauges included."""
    settings = {
        "sampling.max_tokens": TOKENS,
        "sampling.temperature": 0,
        "n_ctx": 1024,
        "threads": threads,
        "probe_every": probe_every,
        "repack": '"off"',
    }
    options = ["--model", str(model)]
    for key, value in settings.items():
        options += ["--set", f"{key}={value}"]
    with home() as environment, running(environment, *options) as (session, _):
        for turn, question in enumerate(("Warm up.", "Tell me a story.")):
            session.type(question)
            session.press("enter")
            wait_finished(environment, turn + 1, session)
        timing = replies(environment)[-1].timing
    assert timing is not None and timing.tpot_ms is not None, "the reply has no timing"
    return timing


def our_prefill(model: Path, threads: int) -> tuple[int, float]:
    """Prompt tokens really evaluated, and how many a second, of a warm engine's long prompt."""
    sampling = Sampling(temperature=0.0, max_tokens=2)
    with EngineProcess() as engine:
        wanted = profile(model, threads=threads, n_ctx=2048, n_batch=512, n_ubatch=512, repack="off", sampling=sampling)
        engine.load(wanted)
        engine.generate("warm up")
        timing = engine.generate(LONG).finished.timing
    assert timing is not None and timing.prefill_rate is not None
    return timing.n_prompt - timing.n_reused, timing.prefill_rate


def their_prefill(tool: Path, model: Path, threads: int, tokens: int) -> float:
    """Tokens per second of ``llama-bench`` for a prompt of as many tokens, in batches of the same size."""
    command = [str(tool), "-m", str(model), "-p", str(tokens), "-n", "0", "-t", str(threads), "-b", "512", "-ub", "512"]
    command += ["-r", "1", "-o", "json", "--repack", "0"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout)[-1]["avg_ts"])


def prefill(tool: Path, model: Path, threads: int, pairs: int) -> Iterator[Measurement]:
    """Ratio ours / llama-bench of the prefill rate, alternating."""
    ratios = []
    for _ in range(pairs):
        tokens, rate = our_prefill(model, threads)
        ratios.append(rate / their_prefill(tool, model, threads, tokens))
    note = f"{tokens} tokens"
    yield Measurement("prefill rate, engine / llama-bench", "×", tuple(ratios), 0.97, "at least", note)


def theirs(tool: Path, model: Path, threads: int, depth: int) -> float:
    """Tokens per second of ``llama-bench`` for the same number of tokens at the same depth."""
    command = [str(tool), "-m", str(model), "-p", "0", "-n", str(TOKENS), "-t", str(threads), "-d", str(depth)]
    command += ["-r", "1", "-o", "json", "--no-warmup", "--repack", "0"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout)[-1]["avg_ts"])


def paired(tool: Path, model: Path, threads: int, pairs: int, probe_every: int = 16) -> Iterator[Measurement]:
    """Ratio ours / llama-bench with the probe at its default and off, and the loop cost."""
    ratios: dict[int, list[float]] = {probe_every: [], 0: []}
    loop_costs: list[float] = []
    for _ in range(pairs):
        for probe, found in ratios.items():
            timing = ours(model, threads, probe)
            bench = theirs(tool, model, threads, timing.depth or 0)
            found.append((timing.decode_rate or 0.0) / bench)
            loop_costs.append(timing.loop_cost_ms or 0.0)
    default, off = ratios[probe_every], ratios[0]
    yield Measurement(
        "decode rate, whole program / llama-bench, probe at its default", "×", tuple(default), 0.97, "at least"
    )
    yield Measurement("decode rate, whole program / llama-bench, probe off", "×", tuple(off), 0.98, "at least")
    yield Measurement("loop cost", "ms/token", (statistics.median(loop_costs), *loop_costs), 0.3)

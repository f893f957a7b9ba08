"""Decode rate through the whole program beside ``llama-bench`` on the very same libraries, in alternating pairs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.measure import Measurement
from tests.bench.pairs import in_turns, two_at_a_time
from tests.bench.whole_program import Program
from tests.engine.harness import EngineProcess, profile

from pagewise.settings import Sampling

TOKENS = 64
DEFAULT_PROBE = 16
LONG = "the quick brown fox jumps over the lazy dog and goes on to the next hill " * 24


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
    return _llama_bench(tool, "-m", model, "-p", tokens, "-n", 0, "-t", threads, "-b", 512, "-ub", 512)


def prefill(tool: Path, model: Path, threads: int, pairs: int) -> Iterator[Measurement]:
    """Ratio ours / llama-bench of the prefill rate, alternating."""
    tokens, _ = our_prefill(model, threads)
    ratios = in_turns(
        lambda: our_prefill(model, threads)[1], lambda: their_prefill(tool, model, threads, tokens), pairs
    )
    note = f"{tokens} tokens"
    yield Measurement(
        "prefill rate, engine / llama-bench", "×", tuple(ratios), 0.97, "at least", note=note, paired=True
    )


def theirs(tool: Path, model: Path, threads: int, depth: int) -> float:
    """Tokens per second of ``llama-bench`` for the same number of tokens at the same depth."""
    return _llama_bench(tool, "-m", model, "-p", 0, "-n", TOKENS, "-t", threads, "-d", depth)


def _llama_bench(tool: Path, *options: object) -> float:
    command = [str(tool), *map(str, options), "-r", "1", "-o", "json", "--repack", "0"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout)[-1]["avg_ts"])


def paired(tool: Path, model: Path, threads: int, pairs: int) -> Iterator[Measurement]:
    """Ratio ours / llama-bench with the probe at its default and off, the loop cost, and what app and host take.

    Both programs are there all the time; whoever is not measured stands still. A pair takes as long as two replies.
    """
    loop_costs, apps, hosts = [], [], []
    ratios: dict[int, list[float]] = {0: [], DEFAULT_PROBE: []}
    with ExitStack() as stack:
        programs = {probe: stack.enter_context(Program(model, threads, TOKENS, probe)) for probe in ratios}
        depth = 0

        def ours(probe: int) -> float:
            nonlocal depth
            timing, spent = programs[probe].reply()
            depth = timing.depth or 0
            loop_costs.append(timing.loop_cost_ms or 0.0)
            apps.append(1000 * spent.app / TOKENS)
            hosts.append(1000 * spent.host / TOKENS)
            return timing.decode_rate or 0.0

        for probe in programs:
            ours(probe)
        for count in two_at_a_time(pairs):
            for probe, found in ratios.items():
                found += in_turns(
                    lambda probe=probe: ours(probe),
                    lambda: theirs(tool, model, threads, depth),
                    count,
                )
    note = f"{TOKENS} tokens at depth {depth}"
    for probe, what, limit in ((DEFAULT_PROBE, "at its default", 0.97), (0, "off", 0.98)):
        name = f"decode rate, whole program / llama-bench, probe {what}"
        yield Measurement(name, "×", tuple(ratios[probe]), limit, "at least", note=note, paired=True)
    yield Measurement("loop cost", "ms/token", tuple(loop_costs), 0.3)
    yield Measurement("processor time of the app while a reply streams", "ms/token", tuple(apps))
    yield Measurement("processor time of the host while a reply streams", "ms/token", tuple(hosts))

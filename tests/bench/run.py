"""``make bench``: every budget of the program, measured on this machine, as a table and as JSON."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
from tests.bench import agreement, decode, layers, screen, tune_grid, watching
from tests.bench.measure import Measurement, Report, machine
from tests.synthetic import Shape, make_model

from pagewise.guide.files import guide_path
from pagewise.models.gguf import read_header

BIG = Shape(n_layer=20, n_embd=2048, n_ff=5632, n_head=16, n_head_kv=4, n_vocab=32000, n_ctx_train=4096, weights="Q8_0")

PARTS = ("header", "frame", "idle", "stream", "host", "monitor", "layers", "decode", "prefill", "agreement", "tune")
ON_REQUEST = ("larger-than-ram",)
"""Takes root, a memory cgroup and a quarter of an hour."""
_SEEDS = 100
MIDDLE = replace(BIG, n_layer=9)
"""About 20 tokens a second on two cores."""


def header(runs: int) -> Iterator[Measurement]:
    """Reading the header of a file with 150 000 tokens."""
    model = make_model(Shape(n_layer=1, n_embd=64, n_ff=64, n_vocab=150_000))
    samples = []
    for _ in range(runs):
        start = time.perf_counter()
        read_header(model)
        samples.append(1000 * (time.perf_counter() - start))
    yield Measurement("GGUF header, vocabulary of 150 000", "ms", tuple(samples), 50.0)


def main() -> None:
    """Measure what is asked for (all, unless named) and write table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)} (all of these); {', '.join(ON_REQUEST)}"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=10, help="of what is measured in alternating pairs")
    parser.add_argument("--grid", type=Path, default=Path("build/tune-grid.json"), help="the tuner's table")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "pagewise-peers")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    report = Report(machine())
    print("\n".join(f"{key}: {value}" for key, value in report.machine.items()))
    print("\n| what | median | spread | runs | budget | |\n|---|---|---|---|---|---|")
    cores = psutil.cpu_count(logical=False) or 1
    for part in options.parts:
        if part == "header":
            report.add(header(options.runs))
        elif part == "frame":
            report.add(screen.first_frame(options.runs))
        elif part == "idle":
            report.add(screen.idle(options.runs))
        elif part == "stream":
            report.add(screen.streaming(make_model(MIDDLE), options.runs))
        elif part == "host":
            report.add(watching.host(make_model(MIDDLE), cores, options.runs))
        elif part == "monitor":
            report.add(watching.monitor(options.peers, options.runs))
        elif part == "layers":
            report.add(layers.share(cores, options.runs))
            report.add(layers.probe_cost(cores, options.runs))
        elif part == "decode":
            report.add(decode.paired(options.peers / "llama-bench", make_model(BIG), cores, options.pairs))
        elif part == "prefill":
            report.add(decode.prefill(options.peers / "llama-bench", make_model(BIG), cores, options.pairs))
        elif part == "agreement":
            tool = options.peers / "llama-bench"
            report.add(agreement.rates(tool, make_model(BIG), cores, options.pairs, "1.1 GB, Q8_0"))
            report.add(agreement.rates(tool, guide_path(), 1, options.pairs, "the guide", agreement.OF_SMALL))
        elif part == "tune":
            report.add(tune_grid.measurements(options.grid, _SEEDS, options.pairs))
        elif part == "larger-than-ram":
            subprocess.run([sys.executable, "-m", "tests.bench.larger_than_ram"], check=True)
        else:
            parser.error(f"there is no part {part!r}")
    report.write(options.json)
    print(f"\nall samples: {options.json}")


if __name__ == "__main__":
    main()

"""A model larger than memory: kept and streamed against the kernel's own paging, in a memory cgroup, alternating.

Linux with a memory cgroup that may be written to (root). Run as ``python -m tests.bench.larger_than_ram``. ``--case``
chooses the model: dense in Q8_0, dense in Q4_K_M (also against stock with its repacking on), or a mixture of experts
with a skewed router. For a mixture M is compared with the whole file, of which a token needs only a part.

``--out`` keeps every run in a file as it ends; the same command goes on from there, and ``--pairs 0`` only prints it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.bench.measure import machine
from tests.engine.harness import EngineProcess, profile
from tests.memory_group import Group, can_make_groups, memory_group
from tests.synthetic import Shape, make_model

from pagewise.engine.llamacpp.pagein import cached_bytes
from pagewise.messages import ChatMessage, Finished, Generate, Streamed, Tokens
from pagewise.models.gguf import read_header
from pagewise.placement.plan import layout
from pagewise.settings import Sampling

DENSE = Shape(n_layer=62, n_embd=2048, n_ff=5632, n_head=16, n_head_kv=4, n_vocab=8192, weights="Q8_0")
CASES = {
    "dense": DENSE,
    "dense-q4": replace(DENSE, n_layer=112, weights="Q4_K_M"),
    "moe": Shape(
        architecture="ernie4_5-moe",
        n_layer=24,
        n_embd=2048,
        n_ff=768,
        n_head=16,
        n_head_kv=4,
        n_vocab=8192,
        weights="Q8_0",
        n_expert=32,
        n_expert_used=4,
        skew=1.5,
    ),
}
TARGETS = {1.05: (None, 0.98), 0.97: (2.1, 6.0), 0.90: (1.4, 4.0), 0.75: (1.2, 2.2), 0.50: (1.15, 1.5)}
"""M / F: (bytes read a token / (F - M) at most, decode rate against stock at least), for a dense model."""
OF_MOE = (1.05, 0.75, 0.50, 0.30)
WAYS = {"ours": ("auto", "off"), "stock": ("off", "off"), "stock, repacked": ("off", "on")}
"""Name of a way: (placement, repack)."""
_IN_MEMORY = "all in memory"
_WARM = 3
_PROMPT = "the quick brown fox jumps over the lazy dog"
_READERS = 4


@dataclass
class Run:
    """One load and one reply. Bytes, seconds."""

    way: str
    target: float
    limit: int
    room: int
    """Memory for the file: the limit less what is not page cache."""
    needed: int
    bytes_per_token: float
    s_per_token: float
    s_load: float
    s_first: float
    """From the question to the first token; the load comes before it."""
    disk_bytes_s: float
    """Of direct reads, in the same run."""
    peak: int
    oom_kills: int
    missed_pct: float | None
    ids: tuple[int, ...]

    pair: int = 0
    end: str = ""
    """The signal, of an engine that ended by itself; nothing else is known then."""

    @property
    def floor_s(self) -> float:
        """What reading the bytes that are missing takes."""
        return max(0, self.needed - self.room) / self.disk_bytes_s


def drop(path: Path) -> None:
    """Take the file out of the page cache; raises where somebody holds it there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        # A read that an engine had begun when it was ended may still be under way.
        until = time.monotonic() + 2
        while left := cached_bytes(path):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if time.monotonic() > until:
                break
    finally:
        os.close(descriptor)
    if left:
        raise RuntimeError(f"{left} bytes of {path} stay in the page cache: the limit would prove nothing")


def bandwidth(path: Path, size: int = 1 << 30, chunk: int = 2 << 20) -> float:
    """Bytes a second of direct reads by as many threads as read ahead."""
    done = [0] * _READERS

    def read(reader: int) -> None:
        buffer = mmap.mmap(-1, chunk)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            for start in range(reader * chunk, size, _READERS * chunk):
                done[reader] += os.preadv(descriptor, [buffer], start)
        finally:
            os.close(descriptor)

    threads = [threading.Thread(target=read, args=(reader,)) for reader in range(_READERS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def read_bytes(pid: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["read_bytes"])


def one(path: Path, group: Group, way: str, target: float, limit: int, tokens: int, needed: int, threads: int) -> Run:
    """Load and answer once under ``limit``."""
    drop(path)
    disk = bandwidth(path)
    group.limit(limit)
    group.forget_peak()
    kills = group.oom_kills()
    placement, repack = WAYS.get(way, WAYS["stock"])
    chosen = profile(path, threads=threads, n_ctx=512, n_ubatch=128, placement=placement, repack=repack)
    with EngineProcess() as engine:
        group.add(engine.process.pid)
        engine.hello()
        try:
            began = time.perf_counter()
            loaded = engine.load(chosen)
            for note in loaded.model.notes:
                print("   ", note, flush=True)
            s_load = time.perf_counter() - began
            began = time.perf_counter()
            id = engine.next_id()
            sampling = Sampling(temperature=0.0, max_tokens=tokens + _WARM)
            engine.send(Generate(id, (ChatMessage("user", _PROMPT),), sampling))
            s_first = 0.0
            marks: list[tuple[float, int]] = []
            ids: list[int] = []
            missed = None
            while True:
                event = engine.event()
                if isinstance(event, Tokens) and event.ids:
                    s_first = s_first or time.perf_counter() - began
                    ids += event.ids
                    marks.append((time.perf_counter(), read_bytes(engine.process.pid)))
                elif isinstance(event, Streamed):
                    missed = event.streaming.missed_pct
                elif isinstance(event, Finished):
                    assert event.failure is None, event.failure
                    break
        except EOFError:
            code = engine.process.wait()
            end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Run(way, target, limit, 0, needed, 0, 0, 0, 0, disk, 0, 0, None, (), end=end)
        room = limit - group.held
    marks = marks[_WARM:]
    steps = len(marks) - 1
    return Run(
        way,
        target,
        limit,
        room,
        needed,
        bytes_per_token=(marks[-1][1] - marks[0][1]) / steps,
        s_per_token=(marks[-1][0] - marks[0][0]) / steps,
        s_load=s_load,
        s_first=s_first,
        disk_bytes_s=disk,
        peak=group.peak(),
        oom_kills=group.oom_kills() - kills,
        missed_pct=missed,
        ids=tuple(ids),
    )


def dense_table(runs: list[Run], other: str, compute_s: float) -> Iterator[str]:
    """Ours beside another way, a line for each target: medians, and of the times the smallest and the largest."""
    yield (
        "| memory / needed | read per token / (needed - memory) | budget | s a token, ours | floor | ours / floor "
        f"| {other} | {other} / ours | budget | load + first token, cold, ours | {other} |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for target, ours, theirs in _beside(runs, other):
        most, least = TARGETS.get(target, (None, None))
        missing = statistics.median(run.needed - run.room for run in ours)
        read = statistics.median(run.bytes_per_token for run in ours)
        mine = statistics.median(run.s_per_token for run in ours)
        floor = max(compute_s, statistics.median(run.floor_s for run in ours))
        yield _row(
            _share(ours),
            f"{read / missing:.2f}" if missing > 0 else f"{read / 1e6:.0f} MB",
            f"≤ {most}" if most else "0",
            _spread([run.s_per_token for run in ours]),
            f"{floor:.3f}",
            f"{mine / floor:.2f}",
            _spread([run.s_per_token for run in theirs]),
            _ratio(ours, theirs),
            f"≥ {least}" if least else "",
            _first_token(ours),
            _first_token(theirs),
        )


def mixture_table(runs: list[Run], other: str) -> Iterator[str]:
    """The same for a mixture, of which a token needs only a part."""
    yield (
        f"| memory / file | MB read per token, ours | {other} | s a token, ours | {other} | {other} / ours "
        f"| load + first token, cold, ours | {other} |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for _, ours, theirs in _beside(runs, other):
        yield _row(
            _share(ours),
            *(f"{statistics.median(run.bytes_per_token for run in side) / 1e6:,.0f}" for side in (ours, theirs)),
            *(_spread([run.s_per_token for run in side]) for side in (ours, theirs)),
            _ratio(ours, theirs),
            _first_token(ours),
            _first_token(theirs),
        )


def _beside(runs: list[Run], other: str) -> Iterator[tuple[float, list[Run], list[Run]]]:
    for target in sorted({run.target for run in runs}, reverse=True):
        ours = [run for run in runs if run.target == target and run.way == "ours"]
        theirs = [run for run in runs if run.target == target and run.way == other]
        if ours and theirs:
            yield target, ours, theirs


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _share(runs: list[Run]) -> str:
    return f"{statistics.median(run.room / run.needed for run in runs):.1%}"


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} … {max(values):.3f})"


def _ratio(ours: list[Run], theirs: list[Run]) -> str:
    by_pair = {run.pair: run.s_per_token for run in theirs}
    ratios = [by_pair[run.pair] / run.s_per_token for run in ours if run.pair in by_pair]
    return _spread(ratios) if ratios else ""


def _first_token(runs: list[Run]) -> str:
    return f"{statistics.median(run.s_load + run.s_first for run in runs):.1f} s"


def show(run: Run) -> str:
    if run.end:
        return f"{run.way:16} the engine ended: {run.end}"
    missed = "" if run.missed_pct is None else f", {run.missed_pct:.1f} % of experts missed"
    return (
        f"{run.way:16} M/F {run.room / run.needed:.3f}: {run.bytes_per_token / 1e6:.0f} MB and {run.s_per_token:.3f} s "
        f"a token{missed}; load {run.s_load:.1f} s, first {run.s_first:.1f} s, floor {run.floor_s:.3f} s, disk "
        f"{run.disk_bytes_s / 1e9:.2f} GB/s, peak {run.peak / run.limit:.3f} of the limit, OOM kills {run.oom_kills}"
    )


class Kept:
    """Runs, those of earlier commands among them where there is a file for them."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        lines = out.read_text(encoding="utf-8").splitlines() if out is not None and out.exists() else []
        self.runs = [Run(**{**json.loads(line), "ids": tuple(json.loads(line)["ids"])}) for line in lines]

    def has(self, way: str, target: float, pair: int) -> bool:
        """Whether it need not be run; nor need what has ended before."""
        known = (run for run in self.runs if run.way == way)
        return any(run.end or (run.target == target and run.pair == pair) for run in known)

    def add(self, run: Run) -> None:
        print(show(run), flush=True)
        self.runs.append(run)
        if self._out is not None:
            with self._out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(run)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", default="dense", choices=sorted(CASES))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--targets", type=float, nargs="*")
    parser.add_argument("--ways", nargs="*", choices=sorted(WAYS))
    parser.add_argument("--out", type=Path, help="a file to keep the runs in, and to go on from")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux") or not can_make_groups():
        sys.exit("This benchmark limits memory with a cgroup: Linux, as root.")
    path = make_model(CASES[arguments.case])
    dense = arguments.case != "moe"
    ways = arguments.ways or (
        ["stock", "stock, repacked", "ours"] if arguments.case == "dense-q4" else ["stock", "ours"]
    )
    header = read_header(path)
    needed = layout((header,), frozenset(tensor.name for tensor in header.tensors)).bytes
    print(json.dumps(machine()), f"F = {needed / 1e9:.2f} GB", flush=True)
    kept = Kept(arguments.out)
    everything = 2 * needed + (1 << 30)
    with memory_group() as group:

        def run(way: str, target: float, limit: int, pair: int) -> None:
            if not kept.has(way, target, pair):
                found = one(path, group, way, target, limit, arguments.tokens, needed, arguments.threads)
                kept.add(replace(found, pair=pair))

        # What the process holds beside the file, with all of it in memory, and how fast it computes.
        run(_IN_MEMORY, 0.0, everything, 0)
        first = next(run for run in kept.runs if run.way == _IN_MEMORY)
        if first.end:
            sys.exit(f"The engine cannot run this model: {first.end}")
        for target in arguments.targets or (sorted(TARGETS, reverse=True) if dense else OF_MOE):
            limit = (int(target * needed) + everything - first.room) // 4096 * 4096
            for pair in range(arguments.pairs):
                for way in ways:
                    run(way, target, limit, pair)
    runs = [run for run in kept.runs if not run.end and run.way != _IN_MEMORY]
    # A repacked copy is another buffer, and its last bits are others.
    if len({run.ids[: arguments.tokens] for run in runs if run.way != "stock, repacked"}) > 1:
        sys.exit("The outputs differ.")
    print(f"all in memory: {first.s_per_token:.3f} s a token")
    for way in ways:
        if way != "ours" and any(run.way == way for run in runs):
            print(*(dense_table(runs, way, first.s_per_token) if dense else mixture_table(runs, way)), sep="\n")
    for failed in (run for run in kept.runs if run.end):
        print(f"{failed.way}: the engine ended ({failed.end}) and was not tried again.")


if __name__ == "__main__":
    main()

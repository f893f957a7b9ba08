"""A model larger than memory: kept and streamed against the kernel's own paging, in a memory cgroup, alternating.

Linux with a memory cgroup that may be written to (root). Run as ``python -m tests.bench.larger_than_ram``. ``--case``
chooses the model: dense in Q8_0, dense in Q4_K_M (also against stock with its repacking on), or a mixture of experts
with a skewed router. For a mixture M is compared with the whole file, of which a token needs only a part.
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

    @property
    def floor_s(self) -> float:
        return max(0, self.needed - self.room) / self.disk_bytes_s


@dataclass
class Ended:
    """An engine that ended by itself."""

    way: str
    target: float
    signal: str


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


def one(
    path: Path, group: Group, way: str, target: float, limit: int, tokens: int, needed: int, threads: int
) -> Run | Ended:
    """Load and answer once under ``limit``."""
    drop(path)
    disk = bandwidth(path)
    group.limit(limit)
    group.forget_peak()
    kills = group.oom_kills()
    placement, repack = WAYS[way]
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
            return Ended(way, target, signal.Signals(-code).name if code < 0 else f"exit code {code}")
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


def table(runs: list[Run], other: str, dense: bool) -> Iterator[str]:
    """The medians of ours beside another way, a line for each target."""
    yield (
        f"| M / F | read a token / (F - M) | budget | rate against {other} | budget | time / floor "
        f"| s a token, ours | {other} | MB a token, ours | {other} | load + first token, ours | {other} |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for target in sorted({run.target for run in runs}, reverse=True):
        ours = [run for run in runs if run.target == target and run.way == "ours"]
        theirs = [run for run in runs if run.target == target and run.way == other]
        if not ours or not theirs:
            continue
        share = statistics.median(run.room / run.needed for run in ours)
        missing = statistics.median(run.needed - run.room for run in ours)
        read, their_read = (statistics.median(run.bytes_per_token for run in side) for side in (ours, theirs))
        mine, their_s = (statistics.median(run.s_per_token for run in side) for side in (ours, theirs))
        ratio = statistics.median(b.s_per_token / a.s_per_token for a, b in zip(ours, theirs, strict=False))
        floor = statistics.median(run.floor_s for run in ours)
        ttft = [statistics.median(run.s_load + run.s_first for run in side) for side in (ours, theirs)]
        most, least = TARGETS.get(target, (None, None)) if dense else (None, None)
        cells = [
            f"{share:.1%}",
            f"{read / missing:.2f}" if missing > 0 and dense else "",
            f"{most or ''}",
            f"{ratio:.2f}",
            f"{least or ''}",
            f"{mine / floor:.2f}" if floor and dense else "",
            f"{mine:.3f}",
            f"{their_s:.3f}",
            f"{read / 1e6:.0f}",
            f"{their_read / 1e6:.0f}",
            f"{ttft[0]:.1f} s",
            f"{ttft[1]:.1f} s",
        ]
        yield f"| {' | '.join(cells)} |"


def show(run: Run | Ended) -> str:
    if isinstance(run, Ended):
        return f"{run.way:16} the engine ended: {run.signal}"
    missed = "" if run.missed_pct is None else f", {run.missed_pct:.1f} % of experts missed"
    return (
        f"{run.way:16} M/F {run.room / run.needed:.3f}: {run.bytes_per_token / 1e6:.0f} MB and {run.s_per_token:.3f} s "
        f"a token{missed}; load {run.s_load:.1f} s, first {run.s_first:.1f} s, floor {run.floor_s:.3f} s, disk "
        f"{run.disk_bytes_s / 1e9:.2f} GB/s, peak {run.peak / run.limit:.3f} of the limit, OOM kills {run.oom_kills}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", default="dense", choices=sorted(CASES))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--targets", type=float, nargs="*")
    parser.add_argument("--ways", nargs="*", choices=sorted(WAYS))
    parser.add_argument("--out", type=Path)
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
    runs: list[Run] = []
    ended: list[Ended] = []
    with memory_group() as group:
        # What the process holds beside the file, with all of it in memory.
        first = one(path, group, "stock", 2.0, 2 * needed + (1 << 30), 4, needed, arguments.threads)
        if isinstance(first, Ended):
            sys.exit(f"The engine cannot run this model: {first.signal}")
        other = 2 * needed + (1 << 30) - first.room
        print(f"all in memory: {first.s_per_token:.3f} s a token", flush=True)
        for target in arguments.targets or (sorted(TARGETS, reverse=True) if dense else OF_MOE):
            for _ in range(arguments.pairs):
                for way in ways:
                    if any(one.way == way for one in ended):
                        continue
                    limit = (int(target * needed) + other) // 4096 * 4096
                    run = one(path, group, way, target, limit, arguments.tokens, needed, arguments.threads)
                    print(show(run), flush=True)
                    if isinstance(run, Ended):
                        ended.append(run)
                    else:
                        runs.append(run)
    # A repacked copy is another buffer, and its last bits are others.
    if len({run.ids[: arguments.tokens] for run in runs if run.way != "stock, repacked"}) > 1:
        sys.exit("The outputs differ.")
    for way in ways:
        if way != "ours" and any(run.way == way for run in runs):
            print(*table(runs, way, dense), sep="\n")
    for failed in ended:
        print(f"{failed.way}: the engine ended ({failed.signal}) and was not tried again.")
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(run) for run in runs], indent=1))


if __name__ == "__main__":
    main()

"""A model larger than memory: kept and streamed against the kernel's own paging, in a memory cgroup, alternating.

Linux with a memory cgroup that may be written to (root). Run as ``python -m tests.bench.larger_than_ram``.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from tests.bench.measure import machine
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import Shape, make_model, make_quantized

from pagewise.engine.llamacpp.pagein import cached_bytes
from pagewise.messages import ChatMessage, Finished, Generate, Tokens
from pagewise.models.gguf import read_header
from pagewise.models.layers import layer_of
from pagewise.placement.plan import layout
from pagewise.settings import Sampling

SHAPE = Shape(n_layer=62, n_embd=2048, n_ff=5632, n_head=16, n_head_kv=4, n_vocab=8192, weights="Q8_0")
TARGETS = {0.97: (2.1, 6.0), 0.90: (1.4, 4.0), 0.75: (1.2, 2.2), 0.50: (1.15, 1.5), 1.05: (None, 0.98)}
"""M / F: (bytes read a token / (F - M) at most, decode rate against stock at least)."""
_ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
_WARM = 3
_PROMPT = "the quick brown fox jumps over the lazy dog"


class Group(NamedTuple):
    """A memory cgroup of our own."""

    path: Path
    version: int

    def limit(self, size: int) -> None:
        (self.path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")).write_text(str(size))

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def usage(self) -> int:
        return int((self.path / ("memory.usage_in_bytes" if self.version == 1 else "memory.current")).read_text())

    def cached(self) -> int:
        stat = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        prefix = "total_" if "total_active_file" in stat else ""
        return int(stat[f"{prefix}active_file"]) + int(stat[f"{prefix}inactive_file"])


@dataclass
class Run:
    """One load and one reply. Bytes, seconds."""

    way: str
    target: float
    room: int
    """Memory for the file: the limit less what is not page cache."""
    needed: int
    bytes_per_token: float
    s_per_token: float
    s_load: float
    s_first: float
    floor_s: float
    ids: tuple[int, ...]


@contextmanager
def memory_group() -> Iterator[Group]:
    version, root = (1, _ROOTS[0]) if _ROOTS[0].is_dir() else (2, _ROOTS[1])
    path = root / f"pagewise-bench-{os.getpid()}"
    path.mkdir()
    try:
        yield Group(path, version)
    finally:
        until = time.monotonic() + 10
        while (path / "cgroup.procs").read_text().strip() and time.monotonic() < until:
            time.sleep(0.05)
        path.rmdir()


def drop(path: Path) -> None:
    """Take the file out of the page cache; raises where somebody holds it there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if left := cached_bytes(path):
        raise RuntimeError(f"{left} bytes of {path} stay in the page cache: the limit would prove nothing")


def bandwidth(path: Path, size: int = 1 << 30) -> float:
    """Bytes a second of direct reads, 2 MiB each, one after another."""
    buffer = mmap.mmap(-1, 2 << 20)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    done, began = 0, time.perf_counter()
    try:
        while done < size and (count := os.preadv(descriptor, [buffer], done)) == len(buffer):
            done += count
    finally:
        os.close(descriptor)
    return done / (time.perf_counter() - began)


def read_bytes(pid: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["read_bytes"])


def one(path: Path, group: Group, way: str, target: float, limit: int, tokens: int, needed: int, threads: int) -> Run:
    """Load and answer once under ``limit``."""
    drop(path)
    disk = bandwidth(path)
    group.limit(limit)
    placement = "off" if way.startswith("stock") else "auto"
    chosen = profile(path, threads=threads, n_ctx=512, n_ubatch=128, placement=placement)
    with EngineProcess() as engine:
        group.add(engine.process.pid)
        engine.hello()
        began = time.perf_counter()
        loaded = engine.load(chosen)
        for note in loaded.model.notes:
            print("   ", note, flush=True)
        s_load = time.perf_counter() - began
        began = time.perf_counter()
        id = engine.next_id()
        engine.send(Generate(id, (ChatMessage("user", _PROMPT),), Sampling(temperature=0.0, max_tokens=tokens + _WARM)))
        s_first = 0.0
        marks: list[tuple[float, int]] = []
        ids: list[int] = []
        while True:
            event = engine.event()
            if isinstance(event, Tokens) and event.ids:
                s_first = s_first or time.perf_counter() - began
                ids += event.ids
                marks.append((time.perf_counter(), read_bytes(engine.process.pid)))
            elif isinstance(event, Finished):
                assert event.failure is None, event.failure
                break
        room = limit - (group.usage() - group.cached())
    marks = marks[_WARM:]
    steps = len(marks) - 1
    return Run(
        way,
        target,
        room,
        needed,
        bytes_per_token=(marks[-1][1] - marks[0][1]) / steps,
        s_per_token=(marks[-1][0] - marks[0][0]) / steps,
        s_load=s_load,
        s_first=s_first,
        floor_s=max(0, needed - room) / disk,
        ids=tuple(ids),
    )


def table(runs: list[Run]) -> Iterator[str]:
    """The medians, a line for each target."""
    yield (
        "| M / F | read a token / (F - M) | budget | rate against stock | budget | time / floor "
        "| s a token, ours | stock | load + first token, ours | stock |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for target in sorted({run.target for run in runs}, reverse=True):
        ours = [run for run in runs if run.target == target and run.way == "ours"]
        stock = [run for run in runs if run.target == target and run.way == "stock"]
        if not ours or not stock:
            continue
        share = statistics.median(run.room / run.needed for run in ours)
        missing = statistics.median(run.needed - run.room for run in ours)
        read = statistics.median(run.bytes_per_token for run in ours)
        mine = statistics.median(run.s_per_token for run in ours)
        theirs = statistics.median(run.s_per_token for run in stock)
        ratio = statistics.median(b.s_per_token / a.s_per_token for a, b in zip(ours, stock, strict=False))
        floor = statistics.median(run.floor_s for run in ours)
        ttft = [statistics.median(run.s_load + run.s_first for run in side) for side in (ours, stock)]
        most, least = TARGETS[target]
        yield (
            f"| {share:.1%} | {f'{read / missing:.2f}' if missing > 0 else f'{read / 1e6:.1f} MB'} | {most or 0} "
            f"| {ratio:.2f} | {least} | {f'{mine / floor:.2f}' if floor else ''} | {mine:.3f} | {theirs:.3f} "
            f"| {ttft[0]:.1f} s | {ttft[1]:.1f} s |"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=SHAPE.n_layer)
    parser.add_argument("--quant", default="Q8_0", choices=["Q8_0", "Q4_K_M"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--targets", type=float, nargs="*", default=sorted(TARGETS, reverse=True))
    parser.add_argument("--only", choices=["ours", "stock"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        sys.exit("This benchmark limits memory with a cgroup: Linux, as root.")
    path = make_model(SHAPE, n_layer=arguments.layers)
    if arguments.quant != "Q8_0":
        path = make_quantized(path, arguments.quant)
    header = read_header(path)
    needed = layout((header,), frozenset(layer_of(tensor.name) for tensor in header.tensors)).bytes
    print(json.dumps(machine()), f"F = {needed / 1e9:.2f} GB", flush=True)
    runs: list[Run] = []
    with memory_group() as group:
        # What the process holds beside the file, with all of it in memory.
        first = one(path, group, "stock", 2.0, 2 * needed + (1 << 30), 4, needed, arguments.threads)
        other = 2 * needed + (1 << 30) - first.room
        for target in arguments.targets:
            for _ in range(arguments.pairs):
                for way in ("stock", "ours"):
                    if arguments.only and way != arguments.only:
                        continue
                    limit = (int(target * needed) + other) // 4096 * 4096
                    run = one(path, group, way, target, limit, arguments.tokens, needed, arguments.threads)
                    runs.append(run)
                    print(
                        f"{run.way:6} M/F {run.room / needed:.3f}: {run.bytes_per_token / 1e6:.0f} MB and "
                        f"{run.s_per_token:.3f} s a token; load {run.s_load:.1f} s, first {run.s_first:.1f} s, "
                        f"floor {run.floor_s:.3f} s",
                        flush=True,
                    )
    if len({run.ids[: arguments.tokens] for run in runs}) > 1:
        sys.exit("The outputs differ.")
    for line in table(runs):
        print(line)
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(run) for run in runs], indent=1))


if __name__ == "__main__":
    main()

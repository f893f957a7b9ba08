"""An hour of answering with a model larger than memory, in a cgroup whose memory a neighbour takes and gives back.

Linux with a memory cgroup that may be written to (root). Run as ``python -m tests.bench.soak --minutes 60``. What must
hold: no OOM kill, usage never above the limit, every reply finished.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from tests.bench.larger_than_ram import CASES, drop
from tests.bench.measure import machine
from tests.engine.harness import EngineProcess, profile
from tests.memory_group import Group, can_make_groups, memory_group
from tests.synthetic import make_model

from pagewise.messages import ChatMessage, Finished, Generate, Streamed, Tokens
from pagewise.models.gguf import read_header
from pagewise.placement.plan import layout
from pagewise.settings import Sampling

_NEIGHBOUR = """
import sys, time
held = bytearray(int(sys.argv[1]))
held[::4096] = b"1" * len(held[::4096])
time.sleep(float(sys.argv[2]))
"""
_EVERY_S, _FOR_S, _TAKEN = 300.0, 60.0, 200_000_000
_PROMPTS = ("the quick brown fox", "what is a page cache", "one two three " * 20)


def _neighbour(group: Group) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", _NEIGHBOUR, str(_TAKEN), str(_FOR_S)])
    group.add(process.pid)
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--case", choices=CASES, default="dense")
    parser.add_argument("--share", type=float, default=0.9, help="memory for the file / bytes that a token needs")
    args = parser.parse_args()
    if not can_make_groups():
        sys.exit("soak: no memory cgroup may be made here; run it as root with cgroup v1 or a delegated v2 tree.")
    path = make_model(CASES[args.case])
    header = read_header(path)
    needed = layout((header,), frozenset(tensor.name for tensor in header.tensors)).bytes
    print(json.dumps(machine()), flush=True)
    with memory_group() as group:
        drop(path)
        limit = int(args.share * needed) + 350_000_000
        group.limit(limit)
        group.forget_peak()
        replies = tokens = 0
        neighbour: subprocess.Popen[bytes] | None = None
        with EngineProcess() as engine:
            group.add(engine.process.pid)
            engine.hello()
            engine.load(profile(path, threads=2, n_ctx=1024, n_ubatch=128, placement="auto"))
            print(f"limit {limit}, held without page cache {group.held}, needed {needed}", flush=True)
            kept = 0
            began = said = taken = time.monotonic()
            while time.monotonic() - began < 60 * args.minutes:
                id = engine.next_id()
                prompt = ChatMessage("user", _PROMPTS[replies % len(_PROMPTS)])
                engine.send(Generate(id, (prompt,), Sampling(temperature=0.0, max_tokens=200)))
                while True:
                    event = engine.event()
                    if isinstance(event, Tokens):
                        tokens += len(event.ids)
                    elif isinstance(event, Streamed):
                        kept = event.streaming.kept_bytes
                    elif isinstance(event, Finished):
                        assert event.failure is None, event.failure
                        break
                replies += 1
                now = time.monotonic()
                if now - taken > _EVERY_S:
                    taken, neighbour = now, _neighbour(group)
                if now - said > 60:
                    said = now
                    used, peak = (size / limit for size in (group.usage(), group.peak()))
                    print(
                        f"{(now - began) / 60:.0f} min: {replies} replies, {tokens} tokens, usage {used:.3f} and peak "
                        f"{peak:.3f} of the limit, OOM kills {group.oom_kills()}, kept {kept / 1e9:.2f} GB",
                        flush=True,
                    )
        if neighbour is not None:
            neighbour.wait()
        print(f"{replies} replies, {tokens} tokens, peak {group.peak() / limit:.4f}, OOM kills {group.oom_kills()}")
        sys.exit(group.oom_kills() != 0 or group.peak() > limit)


if __name__ == "__main__":
    main()

"""What watching costs: the host's readings beside a chat, and the monitor beside htop and nvitop, in one run."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from tests.bench.measure import Measurement
from tests.bench.screen import HEIGHT, WIDTH, home
from tests.host import talk as talking
from tests.host.talk import Talk
from tests.monitor.holder import held_by
from tests.monitor.sparse import sparse_model
from tests.terminal.session import Session, pagewise

from pagewise.client import HostClient
from pagewise.messages import Finished, HostHello, Loaded, SetRate, Tokens
from pagewise.settings import Profile

HZ = 2.0
TOKENS = 96
N_CTX = 2048
_ROOM = 64
"""For the question."""
PHASE_S = 0.9
"""Two readings: one as soon as they are switched on, and one half a second later."""
PAIRS_A_RUN = 20
LARGE_BYTES = 40 << 30
_SETTLE_S = 6.0
"""Two rounds through all processes, and the page cache of what a program imports."""
_WINDOW_S = 15.0


def host(model: Path, threads: int, runs: int) -> Iterator[Measurement]:
    """CPU of the host with every reading at 2 Hz, and what that takes from the decode rate.

    The readings are switched off and on every PHASE_S within one reply, PAIRS_A_RUN pairs a run: a machine drifts by
    more than one per cent from one reply to the next, and by less from one second to the next.
    """
    found = asyncio.run(_host(model, threads, runs))
    note = f"every reading at {HZ:g} Hz"
    yield Measurement("CPU of the host, idle", "% of a core", tuple(found.idle), 3.0, note=note)
    yield Measurement("CPU of the host, while a reply is written", "% of a core", tuple(found.busy), 3.0, note=note)
    lost, nothing = losses(found.phases)
    pairs = f"off and on every {PHASE_S:g} s within one reply"
    yield Measurement("decode rate lost to the readings", "%", lost, 1.0, note=f"{note}, {pairs}", paired=True)
    yield Measurement("the same between neighbours that do not differ", "%", nothing, paired=True)


class Phase(NamedTuple):
    """Some seconds of a reply: ``ms`` is the mean time of a token."""

    hz: float
    ms: float


class _Found(NamedTuple):
    idle: list[float]
    busy: list[float]
    phases: list[Phase]


def losses(phases: Sequence[Phase]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of phases in the order off on, on off, off on, …: what is lost in each pair, in per cent of the decode rate.

    And the same of the neighbours on both sides of each gap between two pairs, which are of one kind: it should be 0,
    and its interval says what this machine could show at that time.
    """
    lost = []
    for first, second in zip(phases[::2], phases[1::2], strict=True):
        off, on = (first, second) if second.hz else (second, first)
        assert on.hz and not off.hz, "a pair is one of each"
        lost.append(100 * (1 - off.ms / on.ms))
    nothing = [100 * (1 - one.ms / other.ms) for one, other in zip(phases[1::2], phases[2::2], strict=False)]
    return tuple(lost), tuple(nothing)


async def _host(model: Path, threads: int, runs: int) -> _Found:
    talking.PATIENCE_S = 300.0
    profile = Profile(name="bench", model=str(model), n_ctx=N_CTX, threads=threads, probe_every=0, repack="off")
    with home() as environment, _environment(environment):
        async with Talk(HostClient()) as talk:
            process = psutil.Process((await talk.wait(HostHello)).pid)
            talk.load(profile)
            await talk.wait(Loaded)
            talk.send(SetRate(HZ))
            tpot_ms = await _warm(talk)
            idle = [await _share(process, _WINDOW_S) for _ in range(runs)]
            tokens = min(max(4, round(1000.0 * PHASE_S / tpot_ms)), (N_CTX - _ROOM) // 4)
            busy: list[float] = []
            phases: list[Phase] = []
            while len(phases) < 2 * PAIRS_A_RUN * runs:
                left = 2 * PAIRS_A_RUN * runs - len(phases)
                fit = (N_CTX - _ROOM) // tokens // 4 * 4
                await _reply(talk, process, tokens, min(fit, left), phases, busy)
    return _Found(idle, busy, phases)


async def _warm(talk: Talk) -> float:
    """The time of a token of a first reply, in ms."""
    talk.ask(TOKENS)
    finished = await talk.wait(Finished)
    assert finished.timing is not None and finished.timing.tpot_ms is not None, finished
    return finished.timing.tpot_ms


async def _reply(
    talk: Talk, process: psutil.Process, tokens: int, count: int, phases: list[Phase], busy: list[float]
) -> None:
    """A reply of ``count`` phases of so many tokens each, ABBA; ``busy`` gets the host's CPU of each with readings."""
    order = [hz for _ in range(count // 4 + 1) for hz in (0.0, HZ, HZ, 0.0)][:count]
    talk.send(SetRate(order[0]))
    talk.ask(tokens * count + 2)
    await talk.wait(Tokens)
    for index, hz in enumerate(order):
        if index:
            talk.send(SetRate(hz))
        cpu, start = _cpu_ns(process.pid), time.perf_counter_ns()
        spent = made = 0.0
        while made < tokens:
            step = await talk.wait(Tokens)
            spent += step.step_ms
            made += len(step.ids)
        phases.append(Phase(hz, spent / made))
        if hz:
            busy.append(100 * (_cpu_ns(process.pid) - cpu) / (time.perf_counter_ns() - start))
    await talk.wait(Finished)


def _cpu_ns(pid: int) -> int:
    """CPU time of all threads, in ns: the clock ticks of /proc/PID/stat are too coarse for a second."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


async def _share(process: psutil.Process, seconds: float) -> float:
    cpu, start = _cpu(process), time.monotonic()
    await asyncio.sleep(seconds)
    return 100 * (_cpu(process) - cpu) / (time.monotonic() - start)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def monitor(peers: Path, runs: int) -> Iterator[Measurement]:
    """CPU of ``pagewise monitor`` while a process has 40 GiB mapped, and of the peers on the same machine.

    All run for the same time, one after another in turn, every half second, in a terminal of the same size.
    """
    nvitop = peers / "nvitop" / "bin" / "nvitop"
    delay = ("-d", "5")
    programs: list[tuple[str, Sequence[str], bool, float | None, str]] = [
        ("pagewise monitor, full screen", pagewise("monitor", "--interval", "0.5"), True, 3.0, ""),
        ("pagewise monitor --json", pagewise("monitor", "--json", "--interval", "0.5"), False, 3.0, ""),
        ("htop", ["htop", *delay], True, None, "" if shutil.which("htop") else "htop is not installed"),
        ("nvitop", [str(nvitop), "--interval", "0.5"], True, None, _why_no_nvitop(nvitop)),
    ]
    shares: dict[str, list[float]] = {name: [] for name, *_ in programs}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pagewise-bench-")))
        model = sparse_model(folder / "large.gguf", LARGE_BYTES)
        holder = stack.enter_context(held_by("map", model))
        note = f"40 GiB mapped by another process; {len(psutil.pids())} processes; every 0.5 s, {WIDTH}x{HEIGHT}"
        environment = stack.enter_context(home())
        for _ in range(runs):
            for name, command, screen, _, why in programs:
                if not why:
                    shares[name].append(_program(command, screen, environment))
        assert holder.poll() is None
    for name, _, _, limit, why in programs:
        if why:
            print(f"| CPU of {name} | not measured: {why} | | | | |", flush=True)
        else:
            yield Measurement(f"CPU of {name}", "% of a core", tuple(shares[name]), limit, note=note)


def _why_no_nvitop(program: Path) -> str:
    if not program.exists():
        return "nvitop is not there (`make peers` puts it into an environment of its own)"
    done = subprocess.run([program, "--once"], capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    words = (done.stderr or done.stdout).strip().splitlines()
    return f"nvitop does not run here: {words[0] if words else f'it ended with {done.returncode}'}"


def _program(command: Sequence[str], screen: bool, environment: dict[str, str]) -> float:
    """CPU of a program that is looked at, in per cent of a core, once it has settled."""
    if screen:
        with Session(command, columns=WIDTH, rows=HEIGHT, environment=environment) as session:
            return _settled_share(session.process.pid)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **environment}) as process:
        try:
            return _settled_share(process.pid)
        finally:
            process.terminate()


def _settled_share(pid: int) -> float:
    process = psutil.Process(pid)
    time.sleep(_SETTLE_S)
    cpu, start = _cpu(process), time.monotonic()
    time.sleep(_WINDOW_S)
    if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
        sys.exit(f"bench: process {pid} ended while it was measured")
    return 100 * (_cpu(process) - cpu) / (time.monotonic() - start)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system

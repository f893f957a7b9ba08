"""What the person at the terminal pays: time to first frame and first token, bytes on the line, CPU of the app."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyte
from tests.bench.measure import Measurement
from tests.terminal.session import Session, pagewise

from pagewise.history.store import History

WIDTH, HEIGHT = 120, 40
QUESTION = "What is memory mapping?"
PLACEHOLDER = "Ask anything"


@contextmanager
def home() -> Iterator[dict[str, str]]:
    """An empty home: environment variables that keep configuration, data, state and cache of a run to itself."""
    with tempfile.TemporaryDirectory(prefix="pagewise-bench-") as folder:
        names = ("CONFIG", "DATA", "STATE", "CACHE")
        yield {f"XDG_{name}_HOME": str(Path(folder) / name.lower()) for name in names}


def warm(environment: dict[str, str]) -> None:
    """One run that is not counted, so that the disk is warm."""
    with Session(pagewise(), columns=WIDTH, rows=HEIGHT, environment=environment) as session:
        session.wait_for(PLACEHOLDER)
        session.press("ctrl+q")
        session.wait_end()


def seconds_to(session: Session, condition: Callable[[pyte.Screen], bool]) -> float:
    """Seconds from the start of the program to the first read after which ``condition`` held on the screen."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    for at, data in list(session.history):
        stream.feed(data)
        if condition(screen):
            return at - session.started
    raise AssertionError(f"never on the screen\n{session.text()}")


def first_frame(runs: int) -> Iterator[Measurement]:
    """``pagewise`` → first frame, and → first token of the guide on screen with the question typed ahead."""
    frames, tokens = [], []
    with home() as environment:
        warm(environment)
        for _ in range(runs):
            with Session(pagewise(), columns=WIDTH, rows=HEIGHT, environment=environment) as session:
                session.wait_for(PLACEHOLDER)
                session.type(QUESTION)
                session.press("enter")
                session.wait_for("tok/s", 60)
                frames.append(seconds_to(session, lambda screen: PLACEHOLDER in "\n".join(screen.display)))
                tokens.append(seconds_to(session, _answer_begun))
                session.press("ctrl+q")
                session.wait_end()
    yield Measurement("launch → first frame, 120x40, warm disk", "s", tuple(frames), 0.6)
    yield Measurement("launch → first token of the guide, question typed ahead", "s", tuple(tokens), 2.0)


def _answer_begun(screen: pyte.Screen) -> bool:
    return any("Memory mapping" in line and "What is" not in line for line in screen.display)


def idle(runs: int, seconds: float = 10.0) -> Iterator[Measurement]:
    """Terminal bytes and CPU of the app with all gauges at 1 Hz and no generation."""
    rates, shares = [], []
    with home() as environment, running(environment) as (session, app):
        time.sleep(5)
        for _ in range(runs):
            before, cpu, start = len(session.raw()), _cpu(app), time.monotonic()
            time.sleep(seconds)
            elapsed = time.monotonic() - start
            rates.append((len(session.raw()) - before) / elapsed / 1000)
            shares.append(100 * (_cpu(app) - cpu) / elapsed)
    yield Measurement("terminal bytes, idle, all gauges", "kB/s", tuple(rates), 5.0)
    yield Measurement("CPU of the app, idle", "% of a core", tuple(shares), 3.0)


def streaming(model: Path, runs: int, tokens: int = 160) -> Iterator[Measurement]:
    """Terminal bytes and CPU of the app while a reply streams from ``model``, gauges on."""
    per_token, shares, speeds = [], [], []
    options = ("--model", str(model), "--set", f"sampling.max_tokens={tokens}", "--set", "sampling.seed=1")
    with home() as environment, running(environment, *options) as (session, app):
        for run in range(runs):
            session.type(f"Tell me a story, number {run}.")
            before, cpu, start = len(session.raw()), _cpu(app), time.monotonic()
            session.press("enter")
            wait_finished(environment, run + 1, session)
            elapsed = time.monotonic() - start
            timing = replies(environment)[-1].timing
            assert timing is not None
            per_token.append((len(session.raw()) - before) / timing.n_output / 1000)
            shares.append(100 * (_cpu(app) - cpu) / elapsed)
            speeds.append(timing.decode_rate or 0.0)
    note = f"at {sum(speeds) / len(speeds):.1f} tok/s"
    yield Measurement("terminal bytes per streamed token, gauges on", "kB", tuple(per_token), 1.0, note=note)
    yield Measurement("CPU of the app while a reply streams", "% of a core", tuple(shares), 15.0, note=note)


@contextmanager
def running(environment: dict[str, str], *options: str) -> Iterator[tuple[Session, psutil.Process]]:
    with Session(pagewise(*options), columns=WIDTH, rows=HEIGHT, environment=environment) as session:
        session.wait_for("in RAM", 120)
        yield session, psutil.Process(session.process.pid)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def replies(environment: dict[str, str]) -> list:
    database = Path(environment["XDG_DATA_HOME"]) / "pagewise" / "history.db"
    history = History(database)
    try:
        last = history.last()
        return [entry for entry in history.messages(last) if entry.role == "assistant"] if last is not None else []
    finally:
        history.close()


def wait_finished(environment: dict[str, str], count: int, session: Session) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = replies(environment)
        if len(found) >= count and found[count - 1].timing is not None:
            return
        time.sleep(0.5)
    raise AssertionError(f"the reply never ended\n{session.text()}")

"""The whole program in a terminal that costs next to nothing, and that stands still while another side is measured."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
from tests.bench.screen import HEIGHT, WIDTH, home, replies
from tests.terminal.session import Session, pagewise

from pagewise.readings import TurnTiming

_LOOK_S = 0.5
_PATIENCE_S = 600.0
_FINISHED = "SELECT count(*) FROM message WHERE role = 'assistant' AND timing IS NOT NULL"


class Terminal(Session):
    """Takes what the program writes, and draws it only when somebody looks: an emulator would share its cores."""

    def _read(self) -> None:
        self._drawn = 0
        while not self._closed:
            try:
                ready, _, _ = select.select([self.master], [], [], 1.0)
                data = os.read(self.master, 65536) if ready else b""
            except (OSError, ValueError):
                return
            if data:
                self.history.append((time.monotonic(), data))
            elif ready or self.process.poll() is not None:
                return

    def lines(self) -> list[str]:
        waiting = self.history[self._drawn :]
        self._drawn += len(waiting)
        for _, data in waiting:
            self._stream.feed(data)
        return super().lines()


class Spent(NamedTuple):
    """Processor time of the parts of the program during one reply, in seconds."""

    app: float
    host: float


class Program:
    """Use as a context manager: a chat with ``model`` whose replies have ``tokens`` tokens, warm and at rest."""

    def __init__(self, model: Path, threads: int, tokens: int, probe_every: int) -> None:
        settings = {
            "sampling.max_tokens": tokens,
            "sampling.temperature": 0,
            "n_ctx": 1024,
            "threads": threads,
            "probe_every": probe_every,
            "repack": '"off"',
        }
        self._options = ["--model", str(model)]
        for key, value in settings.items():
            self._options += ["--set", f"{key}={value}"]
        self._stack = ExitStack()
        self._said = 0

    def __enter__(self) -> Program:
        with ExitStack() as stack:
            self._environment = stack.enter_context(home())
            command = pagewise(*self._options)
            self._session = stack.enter_context(
                Terminal(command, columns=WIDTH, rows=HEIGHT, environment=self._environment)
            )
            self._session.wait_for("in RAM", 120)
            stack.callback(self._signal, signal.SIGCONT)
            self._history = stack.enter_context(contextlib.closing(self._open_history()))
            self.reply()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def reply(self) -> tuple[TurnTiming, Spent]:
        """Timing of a reply in a new conversation, so that its depth is always the same. Then all stands still."""
        self._signal(signal.SIGCONT)
        app, host = self._parts()
        before = _cpu(app), _cpu(host)
        self._said += 1
        self._session.press("ctrl+n")
        self._session.type("Tell me a story.")
        self._session.press("enter")
        self._wait_finished()
        spent = Spent(_cpu(app) - before[0], _cpu(host) - before[1])
        self._signal(signal.SIGSTOP)
        timing = replies(self._environment)[-1].timing
        assert timing is not None and timing.tpot_ms is not None, "the reply has no timing"
        return timing, spent

    def _wait_finished(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            time.sleep(_LOOK_S)
            if self._history.execute(_FINISHED).fetchone()[0] >= self._said:
                return
        raise AssertionError(f"the reply never ended\n{self._session.text()}")

    def _open_history(self) -> sqlite3.Connection:
        path = Path(self._environment["XDG_DATA_HOME"]) / "pagewise" / "history.db"
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def _parts(self) -> tuple[psutil.Process, psutil.Process]:
        app = psutil.Process(self._session.process.pid)
        host = next(child for child in app.children() if "pagewise.host" in child.cmdline())
        return app, host

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            app = psutil.Process(self._session.process.pid)
            yield app
            yield from app.children(recursive=True)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system

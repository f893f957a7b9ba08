"""``pagewise tune`` in a pseudo-terminal: whatever ends it, no engine stays and the terminal is as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.synthetic import make_model
from tests.terminal.session import Session, pagewise
from tests.terminal.test_program import SLOW, engines

pytestmark = pytest.mark.terminal

LONG = ("--prompt", "64", "--output", "2000", "--depth", "64", "--set", "threads=1")
"""One measurement takes longer than a test."""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A tune in the middle of a measurement."""
    home = {f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
    command = pagewise("tune", "--model", str(make_model(SLOW)), *LONG)
    with Session(command, columns=80, rows=24, environment=home) as started:
        started.wait_for("measurement 1", 60)
        yield started


def family(session: Session) -> list[psutil.Process]:
    """Host and engine."""
    found = psutil.Process(session.process.pid).children(recursive=True)
    assert engines(session)
    return found


def ended(session: Session, processes: list[psutil.Process]) -> None:
    """All of it is gone, and the terminal as it was."""
    session.wait_end()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    assert session.terminal_restored()


@pytest.mark.parametrize("key", ["\x11", "\x03", "escape"], ids=["ctrl+q", "ctrl+c", "esc"])
def test_a_key_ends_it_in_the_middle_of_a_measurement(session: Session, key: str) -> None:
    processes = family(session)
    session.press(key)
    ended(session, processes)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(session: Session, number: int) -> None:
    processes = family(session)
    os.kill(session.process.pid, number)
    ended(session, processes)


def test_a_killed_engine_is_told_with_what_to_do(session: Session) -> None:
    (engine,) = engines(session)
    engine.kill()
    session.wait_for("SIGKILL", 30)
    session.wait_for("→", 5)
    session.wait_for("ended early", 5)
    session.press("escape")
    ended(session, [engine])

"""The real program in a pseudo-terminal: one sitting as a person would have it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.synthetic import Shape, make_model
from tests.terminal.session import Session, pagewise

from pagewise.history.store import History

pytestmark = pytest.mark.terminal

SLOW = Shape(n_layer=8, n_embd=1024, n_ff=2816, n_head=16, n_head_kv=4, n_vocab=8000, weights="Q8_0")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Environment variables that keep a run's configuration, data, state and cache in a folder of its own."""
    return {f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}


@pytest.fixture
def chat(home: dict[str, str]) -> Iterator[Session]:
    """The program with the guide, 120x40, ready for a question."""
    with Session(pagewise(), environment=home) as session:
        session.wait_for("Ask anything")
        session.wait_for("in RAM", 60)
        yield session


def replies(home: dict[str, str]) -> list:
    """The replies of the last conversation, from the database."""
    history = History(Path(home["XDG_DATA_HOME"]) / "pagewise" / "history.db")
    try:
        last = history.last()
        return [entry for entry in history.messages(last) if entry.role == "assistant"] if last else []
    finally:
        history.close()


def engines(session: Session) -> list[psutil.Process]:
    """The engine processes below the program, without their own children."""
    found = []
    for process in psutil.Process(session.process.pid).children(recursive=True):
        try:
            if "pagewise.engine" in process.cmdline() and "pagewise.engine" not in process.parent().cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, AttributeError):
            continue
    return found


def ask(session: Session, question: str) -> None:
    """Type a question and send it."""
    session.type(question)
    session.press("enter")


def test_a_question_is_answered_and_the_gauges_show_it(chat: Session, home: dict[str, str]) -> None:
    ask(chat, "What is memory mapping?")
    chat.wait_for("tok/s", 60)
    chat.wait_until(lambda: bool(replies(home)) and replies(home)[0].reason == "end", "a finished reply", 60)
    reply = replies(home)[0]
    assert "memory" in reply.text.lower()
    assert reply.timing is not None
    assert reply.timing.ttft_ms is not None
    screen = chat.text()
    assert "TTFT" in screen
    assert "CONTEXT" in screen
    assert "BOUND BY" in screen
    chat.press("ctrl+q")
    assert chat.wait_end() == 0
    assert chat.terminal_restored()


def test_escape_stops_the_reply_and_keeps_it(home: dict[str, str]) -> None:
    options = ("--model", str(make_model(SLOW)), "--set", "sampling.max_tokens=2000", "--set", "n_ctx=4096")
    with Session(pagewise(*options), environment=home) as session:
        session.wait_for("in RAM", 60)
        ask(session, "Go on for ever")
        session.wait_until(lambda: bool(replies(home)) and len(replies(home)[0].ids) > 5, "some tokens", 60)
        session.press("escape")
        session.wait_for("stopped")
        session.wait_until(lambda: replies(home)[0].reason == "stopped", "the stop on disk")
        assert len(replies(home)[0].ids) > 5


def test_another_profile_is_one_key_away_and_the_conversation_stays(chat: Session, home: dict[str, str]) -> None:
    ask(chat, "hello")
    chat.wait_until(lambda: bool(replies(home)) and replies(home)[0].reason == "end", "a finished reply", 60)
    chat.press("f2")
    chat.wait_for("guide-q4")
    chat.press("down", "enter")
    chat.wait_until(lambda: "Q4_K_M" in chat.lines()[0], "the other quant in the header", 60)
    ask(chat, "What is GGUF?")
    chat.wait_until(lambda: len(replies(home)) == 2 and replies(home)[1].reason == "end", "a second reply", 60)
    assert replies(home)[1].profile == "guide-q4"


def test_the_monitor_finds_our_own_engine_and_gives_the_chat_back(chat: Session) -> None:
    (engine,) = engines(chat)
    chat.press("f5")
    chat.wait_until(
        lambda: any("pagewise" in line and str(engine.pid) in line for line in chat.lines()), "our engine in the strip"
    )
    chat.wait_for("guide-f16.gguf")
    chat.press("escape")
    chat.wait_for("Ask anything")


def test_a_killed_engine_is_replaced_and_the_conversation_goes_on(home: dict[str, str]) -> None:
    options = ("--model", str(make_model(SLOW)), "--set", "sampling.max_tokens=400", "--set", "n_ctx=4096")
    with Session(pagewise(*options), environment=home) as session:
        session.wait_for("in RAM", 60)
        ask(session, "Go on")
        session.wait_until(lambda: bool(replies(home)) and len(replies(home)[0].ids) > 5, "some tokens", 60)
        (engine,) = engines(session)
        engine.kill()
        session.wait_until(lambda: replies(home)[0].reason == "engine lost", "the loss on disk", 30)
        assert len(replies(home)[0].ids) > 5
        session.wait_until(
            lambda: bool(engines(session)) and engines(session)[0] != engine,
            "another engine",
            30,
        )
        ask(session, "And now?")
        session.wait_until(lambda: len(replies(home)) == 2 and len(replies(home)[1].ids) > 5, "a second reply", 60)


def test_nothing_received_is_lost_when_the_program_is_killed(home: dict[str, str]) -> None:
    options = ("--model", str(make_model(SLOW)), "--set", "sampling.max_tokens=400", "--set", "n_ctx=4096")
    with Session(pagewise(*options), environment=home) as session:
        session.wait_for("in RAM", 60)
        ask(session, "Go on")
        session.wait_until(lambda: bool(replies(home)) and len(replies(home)[0].ids) > 5, "some tokens", 60)
        before = len(replies(home)[0].ids)
        family = psutil.Process(session.process.pid).children(recursive=True)
        os.kill(session.process.pid, signal.SIGKILL)
        session.wait_end()
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, "host and engine outlive the app"
    assert len(replies(home)[0].ids) >= before
    with Session(pagewise("--continue"), environment=home) as session:
        session.wait_for("Go on")
        session.wait_for("interrupted")


@pytest.mark.parametrize("signal_number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(chat: Session, signal_number: int) -> None:
    family = psutil.Process(chat.process.pid).children(recursive=True)
    os.kill(chat.process.pid, signal_number)
    chat.wait_end()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert chat.terminal_restored()


def test_a_closing_terminal_that_also_sends_sigcont_does_not_hold_it(chat: Session) -> None:
    family = psutil.Process(chat.process.pid).children(recursive=True)
    os.kill(chat.process.pid, signal.SIGHUP)
    until = time.monotonic() + 30
    while chat.process.poll() is None and time.monotonic() < until:
        chat.process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    assert chat.process.poll() is not None, "it waits for ever"
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert chat.terminal_restored()


def test_a_tiny_terminal_and_a_resize_in_mid_reply(chat: Session, home: dict[str, str]) -> None:
    chat.resize(40, 10)
    ask(chat, "What is a profile?")
    chat.resize(200, 50)
    chat.wait_until(lambda: bool(replies(home)) and replies(home)[0].reason == "end", "a finished reply", 60)
    chat.wait_for("tok/s")
    chat.resize(80, 24)
    chat.wait_for("TPOT")
    chat.press("ctrl+q")
    assert chat.wait_end() == 0

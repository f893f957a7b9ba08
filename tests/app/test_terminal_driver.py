"""The app in a pseudo-terminal, with a scripted host: what reaches a real terminal, and what comes from one."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session import Session

from pagewise.app.terminal import PasteFilter
from pagewise.history.store import History

pytestmark = pytest.mark.terminal
PROGRAM = Path(__file__).with_name("staged_program.py")
COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


class Terminal(Session):
    """A session whose reader has ended before its descriptors are closed: the next session gets their numbers."""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(15)
        self._reader.join(15)
        super().close()


def run(folder: Path, **environment: str) -> Terminal:
    session = Terminal([sys.executable, str(PROGRAM), str(folder)], columns=100, rows=30, environment=environment)
    session.wait_for("laptop-gpu")
    session.wait_for("Q4_K_M")
    return session


@pytest.fixture
def session(own_folders: Path) -> Iterator[Terminal]:
    with run(own_folders) as running:
        yield running


def stored(folder: Path) -> str:
    history = History(folder / "history.db")
    try:
        conversation = history.last()
        return "".join(message.text for message in history.messages(conversation)) if conversation else ""
    finally:
        history.close()


def test_with_no_color_no_colour_code_is_written(own_folders: Path) -> None:
    with run(own_folders, NO_COLOR="1") as session:
        session.type("Why?\r")
        session.wait_for("word bold")
        session.press("escape")
        session.wait_for("stopped")
        for key in ("f2", "f4", "f1"):
            session.press(key)
            session.wait_for("Esc close")
            session.press("escape")
            session.wait_until(lambda: "Esc close" not in session.text(), "the sheet closes")
        assert b"\x1b[" in session.raw()
        assert COLOUR.search(session.raw()) is None


def test_the_terminal_theme_writes_only_the_sixteen_colours(own_folders: Path) -> None:
    with run(own_folders, TERM="xterm", COLORTERM="") as session:
        session.type("Why?\r")
        session.wait_for("word bold")
        assert b"\x1b[36m" in session.raw() or b";36m" in session.raw() or b"\x1b[1;36" in session.raw()
        assert b"38;2;" not in session.raw() and b"38;5;" not in session.raw() and b"48;2;" not in session.raw()


def test_bytes_that_are_not_utf8_are_shown_and_sent(session: Session) -> None:
    os.write(session.master, b"a\xff\xfeb")
    session.wait_for("a\ufffd\ufffdb")
    session.type("\r")
    session.wait_for("word bold")


def test_a_pasted_escape_sequence_is_text(session: Session) -> None:
    os.write(session.master, b"\x1b[200~one\rtwo \x00 \x1b[31m\x1b[201~")
    session.wait_for("one")
    session.wait_until(lambda: "two ␀ ␛[31m" in session.lines()[-2], "the second line")
    session.type("\r")
    session.wait_for("word bold")


def test_a_pasted_escape_sequence_is_text_in_a_filter_too(session: Session) -> None:
    session.press("f4")
    session.wait_for("type to filter")
    os.write(session.master, b"\x1b[200~caf\xc3\xa9 \x1b[35m\x07\x1b[201~")
    session.wait_for("café ␛[35m␇")
    assert b"\x1b[35m" not in session.raw()


@given(st.lists(st.sampled_from(["a", "\x1b", "[", "200~", "201~", "\x1b[200~", "\x1b[201~", "\x1b[A"])), st.data())
def test_however_a_paste_is_cut_it_arrives_the_same(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts) + "end"
    whole = PasteFilter().feed(text)
    cut = PasteFilter()
    shown = ""
    while text:
        length = data.draw(st.integers(2, 9))
        while text[:length].endswith("\x1b"):
            length += 1
        shown += cut.feed(text[:length])
        text = text[length:]
    assert shown == whole


def test_a_terminal_that_goes_away_ends_the_program_and_keeps_the_reply(own_folders: Path) -> None:
    session = run(own_folders)
    session.type("Why?\r")
    session.wait_for("word bold")
    os.close(session._slave)
    os.close(session.master)
    session.process.wait(15)
    session._reader.join(15)
    assert "word **bold**" in stored(own_folders)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_in_mid_reply_restores_the_terminal_and_keeps_the_reply(
    session: Session, own_folders: Path, number: signal.Signals
) -> None:
    session.type("Why?\r")
    session.wait_for("word bold")
    os.kill(session.process.pid, number)
    session.wait_end()
    assert session.terminal_restored()
    assert "word **bold**" in stored(own_folders)


def test_ctrl_z_gives_the_terminal_back_and_cont_returns(session: Session) -> None:
    process = psutil.Process(session.process.pid)
    session.type("\x1a")
    session.wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
    assert session.terminal_restored()
    os.kill(session.process.pid, signal.SIGCONT)
    session.wait_until(lambda: not session.terminal_restored(), "the alternate screen is back")
    session.type("hello again")
    session.wait_for("hello again")


def test_quitting_restores_the_terminal(session: Session) -> None:
    session.press("ctrl+q")
    assert session.wait_end() == 0
    assert session.terminal_restored()

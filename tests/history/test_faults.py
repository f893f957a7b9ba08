from __future__ import annotations

import queue
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.namespace import run_in_small_disk, why_not

from pagewise.history.records import HistoryError
from pagewise.history.store import History
from pagewise.messages import Failure

KILLED = """
import sys
from pathlib import Path
from pagewise.history.store import History

history = History(Path(sys.argv[1]))
conversation = history.new_conversation("guide")
history.add_user(conversation, "question")
reply = history.begin_reply(conversation, "guide", "model")
for number in range(100):
    history.append(reply, f"{number} ", [number])
assert history.settle()
print(conversation, flush=True)
sys.stdin.read()
"""


def test_a_program_that_is_killed_has_lost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    program = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        conversation = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
    history = History(path)
    question, reply = history.messages(conversation)
    assert question.text == "question"
    assert reply.text == "".join(f"{number} " for number in range(100))
    assert reply.ids == tuple(range(100))
    assert reply.reason == "interrupted"
    assert history.last() == conversation
    history.close()


def test_a_lock_is_told_once_and_nothing_is_lost(tmp_path: Path) -> None:
    told: queue.SimpleQueue[Failure] = queue.SimpleQueue()
    history = History(tmp_path / "history.db", told.put)
    conversation = history.new_conversation("guide")
    assert history.settle()
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(20):
        history.add_user(conversation, f"{number}")
    failure = told.get(timeout=20)
    assert "locked" in failure.why
    assert history.messages(conversation) == []
    other.execute("ROLLBACK")
    other.close()
    history.add_user(conversation, "last")
    while not history.settle(20):
        pass
    assert [message.text for message in history.messages(conversation)] == [*map(str, range(20)), "last"]
    assert told.empty()
    history.close()
    assert told.empty()


def test_closing_under_a_lock_says_how_much_is_lost(tmp_path: Path) -> None:
    told: list[Failure] = []
    history = History(tmp_path / "history.db", told.append)
    conversation = history.new_conversation("guide")
    assert history.settle()
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    history.add_user(conversation, "lost")
    history.close()
    assert told[-1].what == "The last part of the conversation was not saved"
    other.close()


def test_opening_under_a_lock_is_an_error_with_a_way_on(tmp_path: Path) -> None:
    History(tmp_path / "history.db").close()
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(HistoryError) as raised:
        History(tmp_path / "history.db")
    assert "locked" in raised.value.failure.why
    other.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be one" * 50, b"SQLite format 3\0" + bytes(5000)]
)
def test_a_damaged_file_is_an_error_and_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(content)
    with pytest.raises(HistoryError) as raised:
        History(path)
    assert "Move the file away" in raised.value.failure.next
    assert path.read_bytes() == content


def test_pages_damaged_later_are_an_error_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = History(path)
    conversation = history.new_conversation("guide")
    for _ in range(100):
        history.add_user(conversation, "x" * 1000)
    history.close()
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xff" * (len(content) - 4096 - 8192)
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="damaged"):
        History(path).messages(conversation)


def test_a_history_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    History(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(HistoryError, match="newer release"):
        History(path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="cannot be written"):
        History(tmp_path / "file" / "history.db")


FULL = """
import queue, sys
from pathlib import Path
from pagewise.history.store import History

folder = Path(sys.argv[1])
told = queue.SimpleQueue()
history = History(folder / "history.db", told.put)
conversation = history.new_conversation("guide")
assert history.settle()
ballast = folder / "ballast"
with ballast.open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
reply = history.begin_reply(conversation, "guide", "model")
for number in range(100):
    history.append(reply, f"{number} " * 20, [number])
failure = told.get(timeout=30)
print(failure.why)
ballast.unlink()
history.finish(reply, "end")
while not history.settle(20):
    pass
(kept,) = history.messages(conversation)
print(len(kept.ids), kept.reason, told.empty())
history.close()
"""

READ_ONLY = """
import subprocess, sys
from pathlib import Path
from pagewise.history.records import HistoryError
from pagewise.history.store import History

folder = Path(sys.argv[1])
existing = folder / "history.db"
history = History(existing)
history.add_user(history.new_conversation("guide"), "text")
history.close()
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
for path in (existing, folder / "new" / "history.db"):
    try:
        History(path)
    except HistoryError as error:
        print(error.failure.what, "|", error.failure.next)
"""


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_full_disk_is_told_and_nothing_is_lost_once_there_is_room(tmp_path: Path) -> None:
    lines = run_in_small_disk(FULL, tmp_path).splitlines()
    assert lines[0].endswith("is full.")
    assert lines[1] == "100 end True"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_read_only_disk_is_an_error_with_a_way_on(tmp_path: Path) -> None:
    lines = run_in_small_disk(READ_ONLY, tmp_path).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Conversations are not being saved | Check the permissions") for line in lines)

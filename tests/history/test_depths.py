from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
from tests.history.test_store import TIMING

from pagewise.history.depths import usual_depth
from pagewise.history.store import History


def replied(file: Path, model: str, *depths: int | None) -> None:
    """Each reply to a message that stood behind so many tokens; None: it had not a single token."""
    history = History(file)
    conversation = history.new_conversation("mine")
    for depth in depths:
        reply = history.begin_reply(conversation, "mine", model)
        new = 20
        before = {"n_prompt": depth + new, "n_reused": depth} if depth is not None else {}
        timing = msgspec.structs.replace(TIMING, depth=None if depth is None else depth + new, **before)
        history.finish(reply, "stop", timing)
    history.close()


def test_the_median_of_a_models_own_replies(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    replied(file, "llama", 100, 9000, 2000)
    replied(file, "other", 5)
    assert usual_depth("llama", file) == (2000, 3)
    assert usual_depth("other", file) == (5, 1)
    assert usual_depth("third", file) is None


def test_the_message_itself_is_no_depth_that_it_stood_behind(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    history = History(file)
    reply = history.begin_reply(history.new_conversation("mine"), "mine", "llama")
    history.finish(reply, "stop", msgspec.structs.replace(TIMING, depth=5000, n_prompt=5000, n_reused=0))
    history.close()
    assert usual_depth("llama", file) == (0, 1)


def test_the_latest_replies_count(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    replied(file, "llama", *[10] * 300)
    replied(file, "llama", *[4000] * 150)
    assert usual_depth("llama", file) == (4000, 200)


def test_replies_without_a_depth_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    replied(file, "llama", None, 70, None)
    assert usual_depth("llama", file) == (70, 1)


def test_no_history_is_made_and_none_that_is_damaged_is_touched(tmp_path: Path) -> None:
    assert usual_depth("llama", tmp_path / "none.db") is None
    assert list(tmp_path.iterdir()) == []
    damaged = tmp_path / "history.db"
    damaged.write_bytes(b"rubbish" * 100)
    assert usual_depth("llama", damaged) is None
    assert damaged.read_bytes() == b"rubbish" * 100


def test_a_timing_of_another_version_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    replied(file, "llama", 50, 60)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE message SET timing = '{}' WHERE id = (SELECT MIN(id) FROM message)")
    assert usual_depth("llama", file) == (60, 1)

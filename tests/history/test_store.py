from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.history.store import History
from pagewise.messages import ChatMessage
from pagewise.readings import TurnTiming

TIMING = TurnTiming(
    ttft_ms=12.5,
    queue_ms=0.1,
    template_ms=0.2,
    prefill_ms=10.0,
    first_sample_ms=2.2,
    ttft_text_ms=12.5,
    tpot_ms=3.0,
    itl_ms=(3.0, 3.0),
    n_prompt=10,
    n_reused=4,
    n_output=3,
    depth=10,
    kv_used=13,
    n_ctx=1024,
    loop_cost_ms=0.1,
    n_probed=1,
    probe_cost_pct=None,
    cold=True,
)


@pytest.fixture(params=["file", "memory"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "folder" / "history.db") if request.param == "file" else History.in_memory()
    yield opened
    opened.close()


def test_a_conversation_comes_back_as_it_was(history: History) -> None:
    conversation = history.new_conversation("guide")
    history.add_user(conversation, "Why?")
    reply = history.begin_reply(conversation, "guide", "Guide F16", "vocabulary")
    history.append(reply, "Be", [1, 2])
    history.append(reply, "cause.", [3])
    history.append(reply, "", [4])
    history.finish(reply, "end", TIMING)
    question, answer = history.messages(conversation)
    assert (question.role, question.text, question.reason) == ("user", "Why?", None)
    assert (answer.id, answer.text, answer.ids, answer.reason) == (reply, "Because.", (1, 2, 3, 4), "end")
    assert (answer.profile, answer.model, answer.timing) == ("guide", "Guide F16", TIMING)
    assert answer.chat() == ChatMessage("assistant", "Because.", (1, 2, 3, 4), "vocabulary")


def test_a_running_reply_is_readable_and_has_no_end(history: History) -> None:
    conversation = history.new_conversation("guide")
    reply = history.begin_reply(conversation, "guide", "model")
    history.append(reply, "so far", [1])
    (running,) = history.messages(conversation)
    assert (running.text, running.ids, running.reason) == ("so far", (1,), None)


def test_a_second_finish_changes_nothing(history: History) -> None:
    conversation = history.new_conversation("guide")
    reply = history.begin_reply(conversation, "guide", "model")
    history.append(reply, "text", [1])
    history.finish(reply, "stopped")
    history.finish(reply, "failed")
    (kept,) = history.messages(conversation)
    assert (kept.text, kept.reason) == ("text", "stopped")


def test_the_list_has_the_latest_first_with_the_first_question_as_title(history: History) -> None:
    first, second, third = (history.new_conversation("guide") for _ in range(3))
    history.add_user(second, "second\n  question " + "x" * 200)
    history.add_user(third, "third")
    history.add_user(first, "first")
    history.add_user(first, "and more")
    rows = history.conversations()
    assert [row.id for row in rows] == [first, third, second]
    assert [row.n_messages for row in rows] == [2, 1, 1]
    assert rows[0].title == "first"
    assert rows[2].title.startswith("second question xxx")
    assert len(rows[2].title) == 80
    assert [row.id for row in history.conversations(limit=1)] == [first]
    assert history.last() == first


def test_a_conversation_without_a_message_is_not_the_last(history: History) -> None:
    assert history.last() is None
    used = history.new_conversation("guide")
    history.add_user(used, "hello")
    history.new_conversation("guide")
    assert history.last() == used


def test_search_finds_questions_replies_and_running_replies_in_any_case(history: History) -> None:
    found = {}
    for text in ("Größe 50% of_it", "other"):
        found[text] = history.new_conversation("guide")
        history.add_user(found[text], text)
    running = history.new_conversation("guide")
    history.append(history.begin_reply(running, "guide", "model"), "streaming WORDS", [])
    assert [row.id for row in history.conversations(search="GRÖSSE")] == [found["Größe 50% of_it"]]
    assert [row.id for row in history.conversations(search="50%")] == [found["Größe 50% of_it"]]
    assert [row.id for row in history.conversations(search="words")] == [running]
    assert history.conversations(search="50_") == []


def test_deleting_takes_all_of_it_and_late_tokens_are_dropped(history: History) -> None:
    conversation, other = history.new_conversation("guide"), history.new_conversation("guide")
    reply = history.begin_reply(conversation, "guide", "model")
    history.append(reply, "text", [1])
    history.delete(conversation)
    history.append(reply, "late", [2])
    history.finish(reply, "end")
    history.add_user(conversation, "late")
    history.add_user(other, "still here")
    assert history.messages(conversation) == []
    assert [row.id for row in history.conversations()] == [other]
    assert history.settle()


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=20), max_size=4))
def test_any_text_is_kept_apart_from_lone_surrogates(pieces: list[str]) -> None:
    history = History.in_memory()
    try:
        conversation = history.new_conversation("guide")
        for piece in pieces:
            history.add_user(conversation, piece)
        kept = [message.text for message in history.messages(conversation)]
        for text, piece in zip(kept, pieces, strict=True):
            text.encode("utf-8")
            if not any(0xD800 <= ord(character) < 0xE000 for character in piece):
                assert text == piece
    finally:
        history.close()


def test_nul_and_lone_surrogates_are_safe_in_replies_and_search(history: History) -> None:
    conversation = history.new_conversation("guide")
    reply = history.begin_reply(conversation, "guide", "model")
    history.append(reply, "a\0b", [1])
    history.append(reply, "\udcffc", [2])
    history.finish(reply, "end")
    assert history.messages(conversation)[0].text == "a\0b\N{REPLACEMENT CHARACTER}c"
    assert [row.id for row in history.conversations(search="b\N{REPLACEMENT CHARACTER}C")] == [conversation]


def test_what_was_written_is_there_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = History(path)
    conversation = first.new_conversation("guide")
    for number in range(200):
        first.add_user(conversation, f"{number}")
    first.close()
    second = History(path)
    assert [message.text for message in second.messages(conversation)] == [f"{number}" for number in range(200)]
    assert second.last() == conversation
    second.close()


def test_two_programs_can_write_into_one_history(tmp_path: Path) -> None:
    one, two = History(tmp_path / "history.db"), History(tmp_path / "history.db")
    conversations = [one.new_conversation("a"), two.new_conversation("b")]
    for number in range(50):
        one.add_user(conversations[0], f"{number}")
        two.add_user(conversations[1], f"{number}")
    assert one.settle()
    assert two.settle()
    assert {row.id: row.n_messages for row in one.conversations()} == dict.fromkeys(conversations, 50)
    one.close()
    two.close()

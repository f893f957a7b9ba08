from __future__ import annotations

import asyncio

import pytest

from app import scenes
from app.fake_client import FakeClient
from pagewise import messages
from pagewise.app.announcements import Announcement, GivenBack, SwitchFailed
from pagewise.app.entries import Question, Remark, Reply
from pagewise.app.journal import Journal
from pagewise.app.session import Session
from pagewise.client import ClientError
from pagewise.history.store import History
from pagewise.messages import Failure, Generate, Load, Stop

BROKEN = Failure("The model cannot be loaded.", "It is truncated.", "Get the file again.")


class Stage:
    """A session over a manual host, driven event by event without any screen."""

    def __init__(self) -> None:
        self.client = FakeClient(manual=True)
        self.told: list[Announcement] = []
        self.history = History.in_memory()
        journal = Journal(self.history, lambda failure: None, "laptop-gpu")
        self.session = Session(scenes.LAPTOP, self.client, journal, self.told.append)

    def hear(self, *events: messages.Event) -> None:
        for event in events:
            self.session.handle(event)

    def ready(self) -> Stage:
        self.hear(scenes.hello())
        self.hear(self.client.loaded(self.load()))
        return self

    def load(self) -> Load:
        command = self.client.last(Load)
        assert isinstance(command, Load)
        return command

    def generate(self) -> Generate:
        command = self.client.last(Generate)
        assert isinstance(command, Generate)
        return command

    def write(self, text: str) -> None:
        turn = self.generate().id
        for index, piece in enumerate(scenes.pieces(text)):
            self.hear(messages.Tokens(turn, (index,), piece, index + 1, 100 + index, 40.0))

    def finish(self, reason: messages.StopReason = "end") -> None:
        self.hear(messages.Finished(self.generate().id, reason, scenes.timing()))

    def count(self, kind: type[messages.Command]) -> int:
        return sum(isinstance(command, kind) for command in self.client.sent)

    @property
    def replies(self) -> list[Reply]:
        return [entry for entry in self.session.entries if isinstance(entry, Reply)]

    @property
    def failures(self) -> list[Failure]:
        return [entry.failure for entry in self.session.entries if isinstance(entry, Remark) and entry.failure]


@pytest.fixture
def stage() -> Stage:
    return Stage().ready()


def test_the_profile_is_loaded_when_the_host_is_there() -> None:
    stage = Stage()
    assert not stage.client.sent
    stage.hear(scenes.hello())
    assert stage.load().profile == scenes.LAPTOP
    assert stage.session.load is not None and stage.session.model is None


def test_a_question_typed_ahead_waits_for_the_model() -> None:
    stage = Stage()
    stage.session.submit("early")
    stage.hear(scenes.hello())
    assert stage.count(Generate) == 0
    [question] = stage.session.entries
    assert isinstance(question, Question) and question.waiting
    stage.hear(stage.client.loaded(stage.load()))
    assert [message.text for message in stage.generate().messages] == ["early"]
    assert not question.waiting


def test_two_quick_questions_never_run_two_turns(stage: Stage) -> None:
    stage.session.submit("one")
    stage.session.submit("two")
    assert stage.count(Generate) == 1
    stage.write("answer one")
    stage.finish()
    assert stage.count(Generate) == 2
    assert [message.text for message in stage.generate().messages] == ["one", "answer one", "two"]
    assert [type(entry).__name__ for entry in stage.session.entries] == ["Question", "Reply", "Question", "Reply"]


def test_stop_keeps_the_partial_reply_and_gives_waiting_questions_back(stage: Stage) -> None:
    stage.session.submit("one")
    stage.session.submit("two")
    stage.write("half an")
    assert stage.session.stop()
    assert stage.client.last(Stop) == Stop(stage.generate().id)
    assert stage.replies[0].stopping
    assert [note.text for note in stage.told if isinstance(note, GivenBack)] == ["two"]
    stage.finish("stopped")
    assert stage.replies[0].raw == "half an" and stage.replies[0].ending == "stopped"
    assert stage.session.turn is None and stage.count(Generate) == 1


def test_stopping_twice_asks_once(stage: Stage) -> None:
    stage.session.submit("one")
    stage.session.stop()
    stage.session.stop()
    assert stage.count(Stop) == 1


def test_stop_cancels_a_load() -> None:
    stage = Stage()
    stage.hear(scenes.hello())
    assert stage.session.stop()
    assert stage.client.last(Stop) == Stop(stage.load().id)
    stage.hear(messages.LoadFailed(stage.load().id, BROKEN, cancelled=True))
    assert stage.session.load is None
    assert "cancelled" in "".join(entry.text for entry in stage.session.entries if isinstance(entry, Remark))
    assert not stage.session.stop()


def test_a_cancelled_load_gives_the_question_back() -> None:
    stage = Stage()
    stage.hear(scenes.hello())
    stage.session.submit("early")
    stage.hear(messages.LoadFailed(stage.load().id, BROKEN, cancelled=True))
    assert [note.text for note in stage.told if isinstance(note, GivenBack)] == ["early"]


def test_a_failed_load_says_why_and_a_question_tries_again() -> None:
    stage = Stage()
    stage.hear(scenes.hello())
    stage.hear(messages.LoadFailed(stage.load().id, BROKEN))
    assert stage.failures == [BROKEN]
    assert stage.session.model is None
    stage.session.submit("again?")
    assert stage.count(Load) == 2
    stage.hear(stage.client.loaded(stage.load()))
    assert stage.generate().messages[-1].text == "again?"


def test_a_switch_that_fails_leaves_the_former_profile(stage: Stage) -> None:
    stage.session.switch(scenes.GUIDE)
    stage.hear(messages.LoadFailed(stage.load().id, BROKEN, restored="laptop-gpu"))
    assert stage.session.profile == scenes.LAPTOP and stage.session.wanted == scenes.LAPTOP
    assert stage.session.model is not None and stage.session.load is None
    assert "laptop-gpu is in force again" in stage.failures[0].next
    assert [note.restored for note in stage.told if isinstance(note, SwitchFailed)] == ["laptop-gpu"]


def test_a_switch_keeps_the_conversation(stage: Stage) -> None:
    stage.session.submit("one")
    stage.write("answer")
    stage.finish()
    stage.session.switch(scenes.GUIDE)
    stage.hear(stage.client.loaded(stage.load(), "model"))
    assert stage.session.profile == scenes.GUIDE
    stage.session.submit("two")
    assert [message.text for message in stage.generate().messages] == ["one", "answer", "two"]


def test_only_the_last_of_two_switches_counts(stage: Stage) -> None:
    stage.session.switch(scenes.GUIDE)
    first = stage.load()
    stage.session.switch(scenes.LAPTOP)
    stage.hear(messages.LoadFailed(first.id, BROKEN, cancelled=True))
    assert stage.session.load is not None and stage.session.load.id == stage.load().id
    stage.hear(stage.client.loaded(stage.load(), "none"))
    assert stage.session.load is None


def test_an_engine_that_is_lost_keeps_the_reply_and_the_conversation_goes_on(stage: Stage) -> None:
    load = stage.load()
    stage.session.submit("one")
    stage.write("partial")
    turn = stage.generate().id
    stage.hear(
        messages.Finished(turn, "engine lost", None, scenes.LOST),
        messages.EngineStatus("lost"),
        messages.EngineLost(scenes.LOST, 9, None, False),
        messages.EngineStatus("starting"),
    )
    [reply] = stage.replies
    assert reply.raw == "partial" and reply.ending == "engine lost" and reply.failure == scenes.LOST
    assert stage.failures == [], "what the reply says is not said twice"
    assert stage.session.load is not None and stage.session.load.phase == "restart"
    stage.session.submit("two")
    assert stage.count(Generate) == 1
    stage.hear(stage.client.loaded(load))
    assert stage.session.load is None
    assert [message.text for message in stage.generate().messages] == ["one", "partial", "two"]


def test_an_engine_lost_while_idle_is_told(stage: Stage) -> None:
    stage.hear(messages.EngineLost(scenes.LOST, 9, None, False))
    assert stage.failures == [scenes.LOST]
    assert stage.session.model is None


def test_a_new_host_gets_the_profile_again(stage: Stage) -> None:
    stage.session.submit("one")
    stage.write("partial")
    stage.hear(messages.Notice(scenes.LOST), messages.Finished(stage.generate().id, "engine lost", None, scenes.LOST))
    stage.hear(scenes.hello())
    assert stage.count(Load) == 2
    stage.hear(stage.client.loaded(stage.load()))
    assert stage.session.model is not None


def test_events_of_a_turn_that_was_left_are_ignored(stage: Stage) -> None:
    stage.session.submit("one")
    old = stage.generate().id
    stage.session.new_conversation()
    stage.hear(messages.Tokens(old, (1,), "late", 1, 999, 40.0), messages.Finished(old, "stopped", scenes.timing()))
    assert stage.session.entries == []
    assert stage.session.readout.kv_used == 0


def test_answering_again_replaces_the_reply_in_the_context(stage: Stage) -> None:
    stage.session.submit("one")
    stage.write("first")
    stage.finish()
    assert stage.session.answer_again()
    assert [message.text for message in stage.generate().messages] == ["one"]
    stage.write("second")
    stage.finish()
    stage.session.submit("two")
    assert [message.text for message in stage.generate().messages] == ["one", "second", "two"]
    assert [reply.raw for reply in stage.replies] == ["first", "second", ""]


def test_there_is_nothing_to_answer_again_in_an_empty_conversation(stage: Stage) -> None:
    assert not stage.session.answer_again()


def test_everything_is_in_the_history_as_it_arrives(stage: Stage) -> None:
    stage.session.submit("one")
    stage.write("half an answer")
    conversation = stage.session.journal.conversation
    assert conversation is not None
    question, reply = stage.history.messages(conversation)
    assert question.text == "one"
    assert reply.text == "half an answer" and reply.reason is None
    stage.finish("stopped")
    reply = stage.history.messages(conversation)[1]
    assert reply.reason == "stopped" and reply.timing == scenes.timing()
    assert reply.vocabulary == "qwen2" and reply.profile == "laptop-gpu"


def test_an_earlier_conversation_is_continued_with_its_token_ids(stage: Stage) -> None:
    stage.session.submit("one")
    stage.write("an answer")
    stage.finish()
    conversation = stage.session.journal.conversation
    assert conversation is not None
    stage.session.new_conversation()
    assert stage.session.entries == []
    stage.session.open_conversation(conversation)
    stage.session.submit("two")
    sent = stage.generate().messages
    assert [message.text for message in sent] == ["one", "an answer", "two"]
    assert sent[1].ids == (0, 1, 2) and sent[1].vocabulary == "qwen2"
    assert stage.session.journal.conversation == conversation


def test_control_characters_are_sent_back_as_they_were_and_shown_as_pictures(stage: Stage) -> None:
    stage.session.submit("one")
    turn = stage.generate().id
    stage.hear(
        messages.Tokens(turn, (1,), "a\x1b[2Jb\r", 1, 10, 300.0),
        messages.Tokens(turn, (2,), "\nc", 2, 11, 40.0),
    )
    [reply] = stage.replies
    assert reply.raw == "a\x1b[2Jb\r\nc"
    assert reply.shown == "a␛[2Jb\nc"


async def test_a_host_that_cannot_be_started_is_told() -> None:
    stage = Stage()

    async def refuse() -> None:
        raise ClientError(Failure("The host cannot be started", "no such file", "Install it."))

    stage.client.start = refuse  # type: ignore[method-assign]
    await stage.session.run()
    assert "no such file" in stage.failures[0].why


async def test_a_host_that_ends_for_good_is_told_and_the_question_given_back() -> None:
    stage = Stage()
    stage.session.submit("early")
    running = asyncio.ensure_future(stage.session.run())
    stage.client.end()
    await running
    assert stage.failures
    assert [note.text for note in stage.told if isinstance(note, GivenBack)] == ["early"]


async def test_closing_marks_the_running_reply_and_closes_the_host(stage: Stage) -> None:
    stage.session.submit("one")
    stage.write("half")
    await stage.session.close()
    await stage.session.close()
    assert stage.client.closed
    assert stage.replies[0].ending == "stopped"

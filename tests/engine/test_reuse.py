"""What of the KV cache is used again, and that the answer is the one a fresh engine gives."""

from __future__ import annotations

import pytest
from tests.engine.harness import EngineProcess, Reply, profile
from tests.synthetic import make_model

from pagewise.messages import ChatMessage
from pagewise.readings import TurnTiming
from pagewise.settings import Sampling

ARCHITECTURES = ("llama", "gemma3", "mamba", "lfm2")
SHORT = Sampling(temperature=0.0, max_tokens=8)
LONG = Sampling(temperature=0.0, max_tokens=400)
"""Longer than the sliding window and all cells kept for it."""


def timing_of(reply: Reply) -> TurnTiming:
    assert reply.finished.timing is not None, reply.finished
    return reply.finished.timing


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_turn_goes_on_where_the_last_one_ended(shared: EngineProcess, architecture: str) -> None:
    loaded = shared.load(profile(make_model(architecture=architecture)))
    first = shared.generate([user("tell me a story")], SHORT)
    conversation = [user("tell me a story"), first.message(loaded.model.vocabulary), user("go on")]
    second = shared.generate(conversation, SHORT)
    timing = timing_of(second)
    assert timing.n_reused == timing_of(first).kv_used
    assert timing.reuse_note == ""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_answer_after_reuse_is_that_of_a_fresh_engine(shared: EngineProcess, architecture: str) -> None:
    """The prompt is evaluated one token at a time in both cases, so that even the bits are equal."""
    one_by_one = profile(make_model(architecture=architecture), n_batch=1, n_ubatch=1)
    loaded = shared.load(one_by_one)
    first = shared.generate([user("tell me a story")], LONG)
    conversation = [user("tell me a story"), first.message(loaded.model.vocabulary), user("go on")]
    second = shared.generate(conversation, SHORT)
    shared.load(one_by_one)
    fresh = shared.generate(conversation, SHORT)
    assert timing_of(second).n_reused > 400 and timing_of(fresh).n_reused == 0
    assert second.ids == fresh.ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answering_again_is_right_whatever_the_cache_can_give_back(shared: EngineProcess, architecture: str) -> None:
    """Regenerating goes back behind a reply longer than the sliding window; recurrent states cannot be cut at all."""
    one_by_one = profile(make_model(architecture=architecture), n_batch=1, n_ubatch=1)
    shared.load(one_by_one)
    question = [user("tell me a story")]
    first = shared.generate(question, LONG)
    again = shared.generate(question, LONG)
    assert again.ids == first.ids
    timing = timing_of(again)
    assert timing.n_reused == timing.n_prompt - 1, "the checkpoint before the prompt's last token was found"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_another_question_after_the_same_beginning(shared: EngineProcess, architecture: str) -> None:
    one_by_one = profile(make_model(architecture=architecture), n_batch=1, n_ubatch=1)
    shared.load(one_by_one)
    beginning = ChatMessage("system", "The quick brown fox jumps over the lazy dog. " * 8)
    shared.generate([beginning, user("what does it do?")], LONG)
    other = shared.generate([beginning, user("why?")], SHORT)
    timing = timing_of(other)
    shared.load(one_by_one)
    fresh = shared.generate([beginning, user("why?")], SHORT)
    assert other.ids == fresh.ids
    if architecture == "llama":
        assert timing.n_reused > timing.n_prompt // 2
    else:
        assert timing.n_reused == 0
    assert timing.reuse_note != ""


def test_sliding_window_that_was_kept_whole_can_be_cut(shared: EngineProcess) -> None:
    one_by_one = profile(make_model(architecture="gemma3"), n_batch=1, n_ubatch=1, swa_full=True)
    shared.load(one_by_one)
    question = [user("tell me a story")]
    first = shared.generate(question, LONG)
    again = shared.generate(question, LONG)
    assert again.ids == first.ids
    assert timing_of(again).n_reused == timing_of(again).n_prompt - 1


def test_reply_of_another_vocabulary_is_tokenized_as_text(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model()))
    first = shared.generate([user("hello")], SHORT)
    foreign = ChatMessage("assistant", first.text, (5, 6, 7), "another vocabulary")
    unknown = ChatMessage("assistant", first.text)
    known = first.message(loaded.model.vocabulary)
    answers = {
        name: shared.generate([user("hello"), message, user("go on")], SHORT)
        for name, message in (("foreign", foreign), ("unknown", unknown), ("known", known))
    }
    assert answers["foreign"].ids == answers["unknown"].ids
    assert timing_of(answers["known"]).n_prompt != 0


def test_ids_that_do_not_give_the_text_are_not_believed(shared: EngineProcess) -> None:
    """A reply cut by a stop string, or edited: what the person saw counts."""
    loaded = shared.load(profile(make_model()))
    edited = ChatMessage("assistant", "something else", (5, 6, 7), loaded.model.vocabulary)
    plain = ChatMessage("assistant", "something else")
    assert (
        shared.generate([user("hello"), edited, user("go on")], SHORT).ids
        == shared.generate([user("hello"), plain, user("go on")], SHORT).ids
    )


def test_a_template_that_rewrites_replies_gets_its_way(shared: EngineProcess) -> None:
    """Such as those that drop earlier thinking: ids of the whole reply would show the model another prompt."""
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{{ message.content | replace('b', 'B') }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    loaded = shared.load(profile(make_model(chat_template=template)))
    first = shared.generate([user("hello")], Sampling(temperature=0.0, max_tokens=60))
    assert "b" in first.text
    conversation = [user("hello"), first.message(loaded.model.vocabulary), user("go on")]
    with_ids = shared.generate(conversation, SHORT)
    without = shared.generate([user("hello"), ChatMessage("assistant", first.text), user("go on")], SHORT)
    assert with_ids.ids == without.ids
    assert timing_of(with_ids).n_prompt == timing_of(without).n_prompt


def test_cache_survives_a_stop(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model(), n_ctx=4096, sampling=Sampling(temperature=0.0)))
    stopped = shared.generate("hello", stop_when=lambda event: getattr(event, "n_output", 0) == 20)
    assert stopped.finished.reason == "stopped" and len(stopped.ids) >= 20
    conversation = [user("hello"), stopped.message(loaded.model.vocabulary), user("go on")]
    again = shared.generate(conversation, SHORT)
    assert timing_of(again).n_reused == timing_of(stopped).kv_used

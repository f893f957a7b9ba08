"""A conversation with a real engine process: what comes back, and that it is the same each time."""

from __future__ import annotations

import pytest
from tests.engine.harness import EngineProcess, Reply, profile
from tests.synthetic import make_model

from pagewise.messages import ChatMessage, Finished, Prefill, Tokens
from pagewise.settings import Sampling

LONG = "the cat sat on the mat and then went out " * 12


def greedy(tokens: int, **changes: object) -> Sampling:
    return Sampling(temperature=0.0, max_tokens=tokens, **changes)  # type: ignore[arg-type]


def test_says_who_it_is(engine: EngineProcess) -> None:
    hello = engine.hello()
    assert hello.pid == engine.process.pid
    assert any(device.startswith("CPU") for device in hello.devices)
    assert "0.3.36" in hello.llama_cpp


def test_load_tells_what_was_loaded(shared: EngineProcess) -> None:
    path = make_model()
    loaded = shared.load(profile(path))
    model = loaded.model
    assert (model.path, model.architecture, model.n_layer) == (str(path), "llama", 4)
    assert (model.n_ctx, model.n_ctx_train) == (1024, 4096)
    assert model.quant == "F16"
    assert model.file_bytes == path.stat().st_size
    assert model.has_chat_template and not model.repacked
    assert model.kv_bytes_per_token == 4 * 2 * 2 * 32 * 2
    assert [layer.name for layer in model.placement] == ["input", "0", "1", "2", "3", "output"]
    assert {layer.where for layer in model.placement} == {"mapped"}
    weights = sum(buffer.bytes for buffer in model.buffers if buffer.kind == "weights")
    assert weights == sum(layer.mapped_bytes for layer in model.placement)
    assert 0.9 * path.stat().st_size < weights < path.stat().st_size
    embedding_rows = 2 * 128 * 1024
    assert model.bytes_per_token == weights - embedding_rows + 2 * 128


def test_greedy_is_the_same_each_time_and_in_a_new_process(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    first, second = shared.generate(LONG), shared.generate("something else, then again")
    with EngineProcess() as other:
        other.load(profile(make_model()))
        again = other.generate(LONG)
        different = other.generate("something else, then again")
    assert first.ids == again.ids and len(first.ids) == 40
    assert second.ids == different.ids
    assert first.ids != second.ids


def test_seed_decides(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))

    def sampled(seed: int | None) -> tuple[int, ...]:
        return shared.generate("a story", Sampling(temperature=1.5, seed=seed, max_tokens=30)).ids

    assert sampled(11) == sampled(11)
    assert sampled(11) != sampled(12)
    assert sampled(None) != sampled(None)


def test_repetition_penalty_reaches_the_sampler(shared: EngineProcess) -> None:
    shared.load(profile(make_model(gain=0.3)))
    plain = shared.generate("a a a a", greedy(60)).ids
    punished = shared.generate("a a a a", greedy(60, repeat_penalty=5.0, repeat_last_n=64)).ids
    assert len(set(punished)) > len(set(plain))


def test_tokens_come_one_by_one_and_add_up(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    reply = shared.generate("hello")
    timing = reply.finished.timing
    assert timing is not None and reply.finished.reason == "length"
    assert [event.n_output for event in reply.tokens if event.ids] == list(range(1, 41))
    assert timing.n_output == len(reply.ids) == 40
    assert [event.kv_used for event in reply.tokens if event.ids] == list(range(timing.n_prompt, timing.n_prompt + 40))
    assert timing.kv_used == timing.n_prompt + 39
    assert timing.depth == timing.n_prompt
    assert reply.prefill[-1].done == reply.prefill[-1].total == timing.n_prompt
    steps = [event.step_ms for event in reply.tokens if event.ids]
    assert steps[0] == pytest.approx(timing.ttft_ms)
    assert steps[1:] == pytest.approx(timing.itl_ms)
    assert timing.tpot_ms == pytest.approx(sum(timing.itl_ms) / len(timing.itl_ms))
    parts = (timing.queue_ms, timing.template_ms, timing.prefill_ms, timing.first_sample_ms or 0.0)
    assert all(part >= 0 for part in parts) and sum(parts) <= (timing.ttft_ms or 0.0) + 0.001


def test_time_to_first_token_is_what_an_observer_sees(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    shared.generate("warm up")
    reply = shared.generate(LONG)
    timing = reply.finished.timing
    assert timing is not None and timing.ttft_ms is not None and reply.seconds_to_first is not None
    assert timing.ttft_ms <= reply.seconds_to_first * 1000


def test_end_of_generation_ends_the_reply(shared: EngineProcess) -> None:
    shared.load(profile(make_model(never_ends=False, seed=1, gain=0.2)))
    ends = [
        shared.generate(f"question {n}", Sampling(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, seed=n))
        for n in range(4)
    ]
    assert {reply.finished.reason for reply in ends} <= {"end", "context full"}
    ended = next(reply for reply in ends if reply.finished.reason == "end")
    timing = ended.finished.timing
    assert timing is not None and timing.n_output == len(ended.ids)
    assert timing.kv_used == timing.n_prompt + timing.n_output, "the last token was evaluated to find the end"
    assert not {0, 2} & set(ended.ids)


def test_stop_string_over_token_borders(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    whole = shared.generate(LONG)
    text = whole.text
    wanted = text[len(text) // 2 :][:4]
    assert len(wanted) == 4
    at = text.index(wanted)
    stopped = shared.generate(LONG, greedy(40, stop=("never seen", wanted)))
    assert stopped.finished.reason == "stop string"
    assert stopped.text == text[:at]
    assert stopped.ids == whole.ids[: len(stopped.ids)]
    assert len(stopped.ids) < len(whole.ids)


def test_characters_split_over_tokens_come_out_whole(shared: EngineProcess) -> None:
    """Byte tokens only: the model writes the bytes of characters one by one."""
    shared.load(profile(make_model(n_vocab=259, gain=0.5)))
    reply = shared.generate("ü", Sampling(temperature=2.0, seed=3, max_tokens=200, top_k=0, top_p=1.0, min_p=0.0))
    pieces = [event.text for event in reply.tokens]
    assert any(not piece for piece in pieces), "some byte was held back"
    assert len(reply.ids) == 200
    from pagewise.engine.llamacpp.text import text_of

    alphabet = bytes_of_tokens(reply.ids)
    assert reply.text == text_of(alphabet)


def bytes_of_tokens(ids: tuple[int, ...]) -> list[bytes]:
    return [bytes([id - 3]) if id >= 3 else b"" for id in ids]


def test_context_full_is_a_clear_end(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), n_ctx=256, sampling=Sampling(temperature=0.0)))
    reply = shared.generate("on and on")
    timing = reply.finished.timing
    assert reply.finished.reason == "context full" and timing is not None
    assert timing.kv_used == timing.n_ctx == 256
    assert timing.n_output == 256 - timing.n_prompt + 1
    again = shared.generate("on and on", greedy(5))
    assert again.finished.reason == "length" and again.ids == reply.ids[:5]


def test_prompt_longer_than_the_context_says_by_how_much(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), n_ctx=256))
    reply = shared.generate("word " * 1000)
    failure = reply.finished.failure
    assert reply.finished.reason == "failed" and failure is not None
    timing = reply.finished.timing
    assert timing is not None and timing.ttft_ms is None
    assert f"{timing.n_prompt - 255:,} more" in failure.why and "n_ctx" in failure.next
    assert shared.generate("short").finished.reason == "length"


def test_a_megabyte_of_text_is_refused_and_forgotten(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    reply = shared.generate("a long story \N{GRINNING FACE} " * 60_000)
    assert reply.finished.failure is not None and "longer than the context" in reply.finished.failure.what
    assert shared.generate("short").finished.reason == "length"


@pytest.mark.parametrize("text", ["a\0b", "\N{REPLACEMENT CHARACTER}", "\x1b[31mred", "", " ", "\U0010ffff"])
def test_odd_text_is_answered(shared: EngineProcess, text: str) -> None:
    shared.load(profile(make_model(), sampling=greedy(3)))
    assert shared.generate(text).finished.reason == "length"


def test_special_tokens_in_a_question_stay_text(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=greedy(3)))
    plain = shared.generate("what does im_end mean?").finished.timing
    named = shared.generate("what does <|im_end|> mean?").finished.timing
    assert plain is not None and named is not None
    assert named.n_prompt > plain.n_prompt, "the name is spelled out, and not one token that ends the turn"


def test_an_empty_conversation_is_a_failure_only_without_template(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=greedy(3)))
    assert shared.generate([]).finished.reason == "length", "the template itself asks for a reply"


def test_system_prompt_of_the_profile(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=greedy(3), system_prompt="Be brief."))
    with_system = shared.generate("hello")
    given = shared.generate([ChatMessage("system", "Be brief."), ChatMessage("user", "hello")])
    shared.load(profile(make_model(), sampling=greedy(3)))
    without = shared.generate("hello")
    assert with_system.ids == given.ids
    assert with_system.finished.timing and without.finished.timing
    assert with_system.finished.timing.n_prompt > without.finished.timing.n_prompt


def test_nothing_is_loaded(engine: EngineProcess) -> None:
    reply = engine.generate("hello")
    assert reply.finished.reason == "failed" and reply.finished.failure is not None
    assert "no model" in reply.finished.failure.what


def test_nothing_reaches_standard_error(engine: EngineProcess) -> None:
    engine.load(profile(make_model()))
    engine.generate("hello")
    engine.process.kill()
    assert engine.process.stderr is not None
    assert engine.process.stderr.read() == b""


def test_events_are_of_one_turn(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    before = len(shared.seen)
    reply: Reply = shared.generate("hello")
    kinds = [type(event) for event in shared.seen[before:]]
    assert kinds[0] is Prefill and kinds[-1] is Finished and Tokens in kinds
    assert {event.id for event in (*reply.tokens, *reply.prefill)} == {reply.finished.id}

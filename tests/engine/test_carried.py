"""A KV cache that was put aside: the next token after it, and what is made of a file that is none of ours."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from llama_cpp import llama_cpp
from tests.engine.harness import profile
from tests.synthetic import make_model

from pagewise.engine.carried import CarriedCache, Made
from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.adapters import Adapters
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import load_model, open_model_file
from pagewise.engine.llamacpp.placement import placement
from pagewise.engine.prompt import Prompts
from pagewise.engine.running import Running
from pagewise.memory_file import memory_file
from pagewise.settings import Lora

PROMPT = [int(id) for id in np.random.default_rng(5).integers(3, 1024, 150)]
NEXT = 77


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    library.start()


@pytest.fixture
def carried() -> Iterator[CarriedCache]:
    descriptor = memory_file()
    yield CarriedCache(descriptor)
    os.close(descriptor)


@contextmanager
def running(architecture: str = "llama", **keys: Any) -> Iterator[Running]:
    path = make_model(architecture=architecture, n_embd=256)
    wanted = profile(path, **keys)
    mark = log.mark()
    model = load_model(open_model_file(path), wanted, progress=lambda _share: True, cancelled=lambda: False)
    context = Context(model, wanted, ctypes.create_string_buffer(2))
    places = placement(model, log.since(mark))
    prompts = cast(Prompts, None)
    made = Running(model, context, places, prompts, wanted, load_ms=0, notes=(), adapters=Adapters(model))
    try:
        yield made
    finally:
        made.free()


def next_token(running: Running) -> Any:
    """Log-probabilities behind one more token."""
    running.sequence.evaluate(NEXT)
    count = running.model.vocabulary.n_tokens
    row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(running.context.pointer, -1), (count,))
    row = row.astype(np.float64)
    return row - np.log(np.exp(row - row.max()).sum()) - row.max()


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
@pytest.mark.parametrize(
    "keys",
    [{}, {"n_ctx": 2048}, {"n_ctx": 256}, {"n_ubatch": 32}, {"threads": 2}, {"load_mode": "none"}, {"repack": "on"}],
    ids=str,
)
def test_the_next_token_agrees_with_the_unswitched_one(
    carried: CarriedCache, architecture: str, keys: dict[str, Any]
) -> None:
    with running(architecture) as before:
        before.sequence.prefill(PROMPT, lambda _done: None)
        assert before.put_aside(carried) == ""
        expected = next_token(before)
    with running(architecture, **keys) as after:
        assert after.take_up(carried) == (len(PROMPT), "")
        found = next_token(after)
    if not keys:
        assert np.array_equal(expected, found)
    assert float((np.exp(expected) * (expected - found)).sum()) < 1e-3
    first, second = np.sort(expected)[-1:-3:-1]
    assert expected.argmax() == found.argmax() or first - second < 0.05


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("first", ["on", "off"])
def test_flash_attention_may_be_turned_on_and_off(carried: CarriedCache, architecture: str, first: str) -> None:
    second = "off" if first == "on" else "on"
    with running(architecture, flash_attention=first) as before:
        before.sequence.prefill(PROMPT, lambda _done: None)
        assert before.put_aside(carried) == ""
        whole = state_of(carried)
        expected = next_token(before)
    with running(architecture, flash_attention=second) as other:
        assert other.take_up(carried) == (len(PROMPT), "")
        assert other.put_aside(carried) == ""
        found = next_token(other)
    assert float((np.exp(expected) * (expected - found)).sum()) < 1e-3
    with running(architecture, flash_attention=first) as again:
        assert again.take_up(carried) == (len(PROMPT), "")
        assert again.put_aside(carried) == ""
        assert state_of(carried) == whole, "what comes back is what was there, bit for bit"
        assert np.array_equal(next_token(again), expected)


def state_of(carried: CarriedCache) -> bytes:
    stored = carried.stored()
    assert stored is not None
    return bytes(carried.part(*stored.state))


def test_a_state_of_more_than_caches_is_refused_with_flash_attention_turned(carried: CarriedCache) -> None:
    with running("lfm2", flash_attention="off") as before, running("lfm2", flash_attention="on") as after:
        before.sequence.prefill(PROMPT, lambda _done: None)
        assert before.put_aside(carried) == ""
        tokens, note = after.take_up(carried)
        assert tokens == 0 and "flash attention" in note
        assert after.sequence.ids == [] and after.sequence.used == 0


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("lfm2", {"flash_attention": "off"}),
        ("lfm2", {"flash_attention": "auto"}),
        ("llama", {"n_ctx": 256}),
        ("llama", {"cache_type_k": "q8_0"}),
    ],
    ids=str,
)
def test_a_context_that_the_cache_could_not_follow_into_is_not_made_where_it_must(
    carried: CarriedCache, architecture: str, keys: dict[str, Any]
) -> None:
    ids = [*PROMPT, *PROMPT]
    with running(architecture, flash_attention="on", n_ctx=1024) as one:
        one.sequence.prefill(ids, lambda _done: None)
        former = one.context
        wanted = msgspec.structs.replace(one.profile, **keys)
        with pytest.raises(Failed, match="KV cache"):
            one.new_context(wanted, ctypes.create_string_buffer(2), carried, must_carry=True)
        assert one.context is former and one.usable and one.sequence.ids == ids
        assert carried.stored() is None


def test_a_cache_that_only_then_cannot_follow_comes_back_with_its_context_where_it_must(
    carried: CarriedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(flash_attention="on", n_ctx=1024) as one:
        one.sequence.prefill(PROMPT, lambda _done: None)
        monkeypatch.setattr("pagewise.engine.running.flip", lambda state: False)
        former = one.profile
        wanted = msgspec.structs.replace(former, flash_attention="off")
        with pytest.raises(Failed, match="KV cache"):
            one.new_context(wanted, ctypes.create_string_buffer(2), carried, must_carry=True)
        assert one.usable and one.context.flash_attention and one.profile is former
        assert one.sequence.ids == PROMPT and one.sequence.used == len(PROMPT)
        assert carried.stored() is None


def test_a_copy_does_not_stay_where_an_adapter_is_refused(carried: CarriedCache) -> None:
    with running() as one:
        one.sequence.prefill(PROMPT, lambda _done: None)
        wanted = msgspec.structs.replace(one.profile, lora=(Lora("/nowhere/adapter.gguf"),))
        with pytest.raises(Failed, match="adapter"):
            one.new_context(wanted, ctypes.create_string_buffer(2), carried)
        assert one.sequence.ids == PROMPT and carried.stored() is None


def test_a_copy_is_cut_back_no_further_than_its_window_reaches_though_the_whole_cache_is_kept(
    carried: CarriedCache,
) -> None:
    cut = [*PROMPT[:75], NEXT]
    with running("gemma3", swa_full=True) as before:
        before.sequence.prefill(PROMPT, lambda _done: None)
        assert before.put_aside(carried) == ""
        assert before.sequence.reuse(cut).tokens == 75
        expected = next_token(before)
    with running("gemma3", swa_full=True) as after:
        assert after.take_up(carried) == (len(PROMPT), "")
        tokens, note = after.sequence.reuse(cut)
        after.sequence.prefill(cut[:-1], lambda _done: None)
        found = next_token(after)
    assert float((np.exp(expected) * (expected - found)).sum()) < 1e-3
    assert tokens == 0 and "sliding window" in note


@pytest.mark.parametrize("content", [b"", b"x" * 10_000, b"pwkv" + b"\xff" * 10_000, b"pwkv" + bytes(10_000)])
def test_a_file_that_holds_something_else_is_passed_over(content: bytes) -> None:
    descriptor = memory_file()
    try:
        os.write(descriptor, content)
        with running() as after:
            assert after.take_up(CarriedCache(descriptor)) == (0, "")
    finally:
        os.close(descriptor)


def test_no_room_is_said_and_takes_nothing(carried: CarriedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with running() as before:
        before.sequence.prefill(PROMPT, lambda _done: None)
        assert "No space left" in before.put_aside(carried)
    assert carried.stored() is None


def test_checkpoints_travel_with_the_state(carried: CarriedCache) -> None:
    parts = [(3, (ctypes.c_uint8 * 5)(*b"abcde")), (4, (ctypes.c_uint8 * 2)(*b"fg"))]

    def fill(state: ctypes.Array[ctypes.c_uint8]) -> bool:
        state[:] = b"123456789"
        return True

    assert carried.put(Made((("model", 1, 2),), ()), [1, 2, 3, 4], 9, parts, fill)
    stored = carried.stored()
    assert stored is not None and stored.ids == (1, 2, 3, 4)
    assert bytes(carried.part(*stored.state)) == b"123456789"
    assert [(count, bytes(carried.part(start, size))) for count, start, size in stored.checkpoints] == [
        (3, b"abcde"),
        (4, b"fg"),
    ]


def test_half_a_copy_is_none(carried: CarriedCache) -> None:
    """The engine is ended in the middle of writing it."""

    class Ended(BaseException):
        pass

    def fill(_state: object) -> bool:
        raise Ended

    with pytest.raises(Ended):
        carried.put(Made((("model", 1, 2),), ()), [1, 2, 3], 4096, [], fill)
    assert carried.stored() is None
    assert not carried.put(Made((("model", 1, 2),), ()), [1, 2, 3], 4096, [], lambda _state: False)
    assert carried.stored() is None

"""Profiles switched on a running engine: what is made anew, what stays, and what comes back after a failure."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from msgspec import structs
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model

from pagewise.engine.process import LOG_VARIABLE
from pagewise.jobs.plan import MakePlan, Planned
from pagewise.memory_file import memory_file
from pagewise.messages import ChatMessage, Finished, Load, Loaded, LoadFailed, LoadProgress, Release, Tokens, Unloaded
from pagewise.settings import Sampling

SHORT = Sampling(temperature=0.0, max_tokens=8)
LOADS = re.compile(r"llama_model_loader: loaded meta data")
CONTEXTS = re.compile(r"llama_context: constructing llama_context")


def test_live_change_keeps_weights_and_context(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    first = shared.generate("hello")
    loaded = shared.load(profile(make_model(), sampling=Sampling(temperature=0.0, max_tokens=5), threads=2), "live")
    assert loaded.change == "live" and loaded.model.threads == 2
    again = shared.generate("hello")
    assert again.ids == first.ids[:5]
    timing = again.finished.timing
    assert timing is not None and timing.n_reused == timing.n_prompt - 1 and not timing.cold


def test_live_change_makes_nothing_anew(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with EngineProcess(**{LOG_VARIABLE: str(log)}) as engine:
        first = profile(make_model(), sampling=SHORT)
        engine.load(first)
        made = [len(kind.findall(log.read_text(errors="replace"))) for kind in (LOADS, CONTEXTS)]
        for keys in (
            {"threads": 2},
            {"probe_every": 3},
            {"sampling": Sampling(top_k=5)},
            {"system_prompt": "Be brief."},
        ):
            assert engine.load(structs.replace(first, **keys), "live").change == "live"
        assert [len(kind.findall(log.read_text(errors="replace"))) for kind in (LOADS, CONTEXTS)] == made
        assert min(made) == 1


def test_live_change_takes_effect_within_a_reply(shared: EngineProcess) -> None:
    long = profile(make_model(), sampling=Sampling(temperature=0.0, max_tokens=900))
    shared.load(long)
    short = structs.replace(long, sampling=Sampling(temperature=0.0, max_tokens=40), threads=2)

    def change(event: object) -> bool:
        if isinstance(event, Tokens) and event.n_output == 5:
            shared.send(MakePlan(shared.next_id(), long))
            shared.send(Load(shared.next_id(), short, "live"))
        return False

    before = len(shared.seen)
    reply = shared.generate("hello", stop_when=change)
    assert reply.finished.reason == "length" and reply.finished.timing is not None
    assert 40 <= reply.finished.timing.n_output < 900
    kinds = [type(event) for event in shared.seen[before:] if isinstance(event, Loaded | Finished)]
    assert kinds == [Loaded, Finished]
    assert isinstance(shared.first(Planned), Planned), "what waited was served behind the reply"


def test_only_the_first_turn_after_a_load_is_cold(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    cold = [shared.generate("hello").finished.timing for _ in range(2)]
    assert [timing.cold for timing in cold if timing is not None] == [True, False]


def test_context_change_keeps_weights_and_conversation(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with EngineProcess(**{LOG_VARIABLE: str(log)}) as engine:
        loaded = engine.load(profile(make_model(), sampling=SHORT, n_ctx=512))
        first = engine.generate("hello")
        loads = len(LOADS.findall(log.read_text(errors="replace")))
        changed = engine.load(profile(make_model(), sampling=SHORT, n_ctx=2048), "context")
        assert len(LOADS.findall(log.read_text(errors="replace"))) == loads, "the weights were not loaded again"
        assert changed.change == "context" and changed.model.n_ctx == 2048
        assert changed.model.load_ms == loaded.model.load_ms
        conversation = [ChatMessage("user", "hello"), first.message(loaded.model.vocabulary), ChatMessage("user", "on")]
        timing = engine.generate(conversation).finished.timing
        assert timing is not None and first.finished.timing is not None
        assert timing.n_reused == first.finished.timing.kv_used, "the KV cache was carried over"


def test_context_of_another_kind_is_prefilled_again(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    first = shared.generate("hello")
    shared.load(profile(make_model(), sampling=SHORT, cache_type_k="f32", cache_type_v="f32"), "context")
    timing = shared.generate("hello").finished.timing
    assert timing is not None and timing.n_reused == 0
    shared.load(profile(make_model(), sampling=SHORT), "context")
    assert shared.generate("hello").ids == first.ids


def test_smaller_context_than_the_conversation(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=Sampling(temperature=0.0, max_tokens=500), n_ctx=1024))
    shared.generate("hello")
    shared.load(profile(make_model(), sampling=SHORT, n_ctx=256), "context")
    assert shared.generate("hello").finished.reason == "length"


def test_a_context_too_small_for_the_conversation_says_so(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model(), sampling=Sampling(temperature=0.0, max_tokens=500), n_ctx=1024))
    reply = shared.generate("hello")
    changed = shared.load(profile(make_model(), sampling=SHORT, n_ctx=256), "context")
    assert changed.kv_carried == 0 and "do not fit into a context of 256" in changed.kv_note
    conversation = [ChatMessage("user", "hello"), reply.message(loaded.model.vocabulary), ChatMessage("user", "on")]
    failed = shared.generate(conversation).finished
    assert failed.reason == "failed" and failed.failure is not None and "longer than the context" in failed.failure.what


@pytest.mark.parametrize("keys", [{"n_batch": 64, "n_ubatch": 32}, {"n_ctx": 2048}, {"threads": 2, "n_ctx": 512}])
def test_context_change_carries_the_cache(shared: EngineProcess, keys: dict[str, int]) -> None:
    first = profile(make_model(), sampling=SHORT)
    shared.load(first)
    used = shared.generate("hello").finished.timing
    changed = shared.load(structs.replace(first, **keys), "context")
    assert used is not None and (changed.kv_carried, changed.kv_note) == (used.kv_used, "")


def test_cache_of_another_kind_says_why_it_stays_behind(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    shared.generate("hello")
    changed = shared.load(profile(make_model(), sampling=SHORT, cache_type_k="f32", cache_type_v="f32"), "context")
    assert changed.kv_carried == 0 and "another kind" in changed.kv_note


def test_failed_context_change_leaves_the_former_one(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    first = shared.generate("hello")
    failed = shared.try_load(
        profile(make_model(), sampling=SHORT, flash_attention="off", cache_type_v="q4_0"), "context"
    )
    assert isinstance(failed, LoadFailed) and failed.restored == "test"
    assert "flash attention" in failed.failure.why
    again = shared.generate("hello")
    timing = again.finished.timing
    assert again.ids == first.ids
    assert timing is not None and timing.n_reused == timing.n_prompt - 1, "with the cache as it was"


def test_another_model_in_the_same_process(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    first = shared.generate("hello")
    loaded = shared.load(profile(make_model(architecture="gemma3"), sampling=SHORT), "model")
    assert loaded.change == "model" and loaded.model.architecture == "gemma3"
    other = shared.generate("hello")
    shared.load(profile(make_model(), sampling=SHORT), "model")
    assert shared.generate("hello").ids == first.ids != other.ids


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
@pytest.mark.parametrize("change", ["context", "model"])
def test_conversation_is_carried_to_the_same_weights(shared: EngineProcess, architecture: str, change: str) -> None:
    one_by_one = profile(make_model(architecture=architecture), n_batch=1, n_ubatch=1, sampling=SHORT)
    loaded = shared.load(one_by_one)
    first = shared.generate("hello")
    conversation = [ChatMessage("user", "hello"), first.message(loaded.model.vocabulary), ChatMessage("user", "on")]
    fresh = shared.generate(conversation)
    shared.load(one_by_one)
    shared.generate("hello")
    shared.load(structs.replace(one_by_one, n_ctx=2048, load_mode="none"), change)
    carried = shared.generate(conversation)
    assert carried.ids == fresh.ids
    assert carried.finished.timing is not None and first.finished.timing is not None
    assert carried.finished.timing.n_reused == first.finished.timing.kv_used


@pytest.mark.parametrize("keys", [{"repack": "on"}, {"load_mode": "none"}, {"load_mode": "none", "n_ctx": 2048}])
def test_another_way_of_loading_the_same_file_keeps_the_conversation(
    shared: EngineProcess, keys: dict[str, object]
) -> None:
    first = profile(make_model(n_embd=256), sampling=SHORT)
    shared.load(first)
    used = shared.generate("hello").finished.timing
    changed = shared.load(structs.replace(first, **keys), "model")
    assert used is not None and (changed.kv_carried, changed.kv_note) == (used.kv_used, "")


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_conversation_goes_over_to_another_engine(architecture: str) -> None:
    one_by_one = profile(make_model(architecture=architecture), n_batch=1, n_ubatch=1, sampling=SHORT)
    file = memory_file()
    try:
        with EngineProcess(kv_file=file) as engine:
            loaded = engine.load(one_by_one)
            first = engine.generate("hello")
            kv_used = first.finished.timing.kv_used if first.finished.timing else 0
            talk = [ChatMessage("user", "hello"), first.message(loaded.model.vocabulary), ChatMessage("user", "on")]
            expected = engine.generate(talk).ids
            engine.load(one_by_one)
            engine.generate("hello")
            unloaded = engine.unload(one_by_one)
            assert isinstance(unloaded, Unloaded) and unloaded.kv_tokens == kv_used
            assert os.fstat(file).st_size > 0
        with EngineProcess(kv_file=file) as engine:
            assert engine.load(one_by_one).kv_carried == kv_used
            assert os.fstat(file).st_size == 0, "its memory is given back"
            carried = engine.generate(talk)
            assert carried.ids == expected
            assert carried.finished.timing is not None and carried.finished.timing.n_reused == kv_used
    finally:
        os.close(file)


def test_answering_again_after_a_switch_uses_the_carried_checkpoints(shared: EngineProcess) -> None:
    """A recurrent state cannot be cut back: without its checkpoint the question would be read again."""
    first = profile(make_model(architecture="lfm2"), sampling=SHORT)
    shared.load(first)
    shared.generate("hello")
    shared.load(structs.replace(first, n_ctx=2048), "context")
    timing = shared.generate("hello").finished.timing
    assert timing is not None and timing.n_reused == timing.n_prompt - 1


def test_a_file_that_vanishes_between_plan_and_load(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(make_model(seed=11), path)
    former = profile(make_model(), sampling=SHORT)
    shared.load(former)
    first = shared.generate("hello")
    assert isinstance(shared.unload(profile(path)), Unloaded)
    path.unlink()
    failed = shared.try_load(profile(path), "model")
    assert isinstance(failed, LoadFailed) and failed.restored is None and "no file" in failed.failure.what
    back = shared.load(former, "model")
    assert first.finished.timing is not None and back.kv_carried == first.finished.timing.kv_used
    assert shared.generate("hello").ids == first.ids


def test_what_cannot_be_loaded_is_refused_before_anything_is_freed(shared: EngineProcess, tmp_path: Path) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    failed = shared.unload(profile(tmp_path / "nowhere.gguf"))
    assert isinstance(failed, LoadFailed) and failed.restored == "test"
    assert shared.generate("hello").finished.reason == "length"


def test_quants_of_one_model_share_a_vocabulary(shared: EngineProcess) -> None:
    f16 = shared.load(profile(make_model())).model
    q8_0 = shared.load(profile(make_model(weights="Q8_0"))).model
    other = shared.load(profile(make_model(n_vocab=2048))).model
    assert f16.vocabulary == q8_0.vocabulary != other.vocabulary
    assert (f16.quant, q8_0.quant) == ("F16", "Q8_0")


def test_failed_model_change_that_is_seen_in_time_keeps_the_former_model(shared: EngineProcess, tmp_path: Path) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    first = shared.generate("hello")
    failed = shared.try_load(profile(tmp_path / "nowhere.gguf"), "model")
    assert isinstance(failed, LoadFailed) and failed.restored == "test"
    assert shared.generate("hello").ids == first.ids


def test_a_model_file_that_is_deleted_goes_on_working(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(make_model(), path)
    shared.load(profile(path, sampling=SHORT))
    first = shared.generate("hello")
    path.unlink()
    assert shared.generate("hello").ids == first.ids
    failed = shared.try_load(profile(path, sampling=SHORT), "model")
    assert isinstance(failed, LoadFailed) and failed.restored == "test"
    assert shared.load(profile(make_model(), sampling=SHORT), "model").change == "model"


def test_release_and_the_next_question_loads_again(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    first = shared.generate("hello")
    shared.send(Release())
    before = len(shared.seen)
    again = shared.generate("hello")
    assert again.ids == first.ids
    assert any(isinstance(event, Loaded) for event in shared.seen[before:])
    assert again.finished.timing is not None and again.finished.timing.cold


def test_loading_reports_its_phases_in_order(shared: EngineProcess) -> None:
    before = len(shared.seen)
    shared.load(profile(make_model(n_embd=256)))
    progress = [event for event in shared.seen[before:] if isinstance(event, LoadProgress)]
    phases = list(dict.fromkeys(event.phase for event in progress))
    assert phases == ["weights", "context", "warm"]
    weights = [event.done_bytes for event in progress if event.phase == "weights"]
    assert weights == sorted(weights)
    assert weights[-1] == progress[0].total_bytes


def test_more_context_than_the_model_was_trained_for_is_said(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model(), n_ctx=1_000_000))
    assert loaded.model.n_ctx == 4096
    assert any("4,096" in note for note in loaded.model.notes)
    changed = shared.load(profile(make_model(), n_ctx=512), "context")
    assert not any("4,096" in note for note in changed.model.notes)
    assert shared.load(profile(make_model(), n_ctx=0), "context").model.n_ctx == 4096


def test_repacked_weights_are_copied_weights(shared: EngineProcess) -> None:
    """What can be repacked depends on the processor; what is said of it must be one story."""
    model = shared.load(profile(make_model(n_embd=256), repack="on")).model
    copied = sum(layer.copied_bytes for layer in model.placement)
    assert model.repacked == (copied > 0)
    assert copied == sum(
        buffer.bytes for buffer in model.buffers if buffer.kind == "weights" and not buffer.buffer.endswith("_Mapped")
    )
    assert shared.generate("hello").finished.reason == "length"
    assert not shared.load(profile(make_model(n_embd=256), repack="auto")).model.repacked


@pytest.mark.parametrize("mode", ["mmap", "none", "direct"])
def test_load_modes(shared: EngineProcess, mode: str) -> None:
    model = shared.load(profile(make_model(), load_mode=mode, sampling=SHORT)).model
    assert {layer.where for layer in model.placement} == ({"mapped"} if mode == "mmap" else {"copied"})
    assert shared.generate("hello").finished.reason == "length"


def test_warming_leaves_no_trace(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=SHORT))
    reply = shared.generate("hello")
    assert reply.finished.timing is not None and reply.finished.timing.n_reused == 0
    assert isinstance(reply.finished, Finished)

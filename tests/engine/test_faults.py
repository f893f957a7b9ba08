"""Files and settings that cannot work: each gets a plain message, and the engine goes on."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_hollow, make_model

from pagewise.messages import ChatMessage, Failure, LoadFailed, Notice
from pagewise.settings import Sampling

SHORT = Sampling(temperature=0.0, max_tokens=3)


def failure_of(engine: EngineProcess, path: Path | str, **changes: object) -> Failure:
    answer = engine.try_load(profile(path, **changes))
    assert isinstance(answer, LoadFailed), answer
    failure = answer.failure
    for text in (failure.what, failure.why, failure.next):
        assert text and text.isprintable()
    return failure


def test_missing_file(shared: EngineProcess, tmp_path: Path) -> None:
    assert "no file" in failure_of(shared, tmp_path / "nowhere.gguf").what


def test_empty_file(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.touch()
    assert "empty" in failure_of(shared, path).what


def test_not_gguf(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("these are my notes about models", encoding="utf-8")
    assert "not a GGUF" in failure_of(shared, path).what


def test_truncated(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(make_model().read_bytes()[:-1000])
    assert "cut short" in failure_of(shared, path).what


def test_absurd_header(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "absurd.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 1 << 60) + bytes(100))
    assert "damaged" in failure_of(shared, path).what


def test_header_that_only_llama_cpp_objects_to(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "renamed.gguf"
    raw = make_model().read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight")
    path.write_bytes(raw)
    failure = failure_of(shared, path)
    assert "could not be loaded" in failure.what and "blk.1.ffn_up.weight" in failure.why


def test_unknown_architecture(shared: EngineProcess) -> None:
    failure = failure_of(shared, make_model(architecture="mystery"))
    assert "mystery" in failure.why


@pytest.mark.parametrize(
    ("extra", "word"), [((("general.type", "adapter"),), "LoRA"), ((("general.type", "mmproj"),), "image")]
)
def test_gguf_that_is_no_language_model(shared: EngineProcess, extra: tuple[tuple[str, str], ...], word: str) -> None:
    failure = failure_of(shared, make_model(extra=extra))
    assert "not a model that can chat" in failure.what and word in failure.why


def test_weights_that_must_stay_in_memory_and_do_not_fit(shared: EngineProcess, tmp_path: Path) -> None:
    """A sparse file: as large as it says, and taking no room."""
    path = make_hollow(tmp_path / "large.gguf", n_layer=64, n_embd=1 << 15, n_ff=1 << 18, n_head=64, weights="Q8_0")
    failure = failure_of(shared, path, load_mode="none")
    assert "does not fit" in failure.what and "mmap" in failure.next


def test_folder_of_safetensors(shared: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    failure = failure_of(shared, tmp_path)
    assert "Hugging Face" in failure.what and "GGUF" in failure.next
    assert "convert" in failure_of(shared, tmp_path / "model.safetensors").next


def test_split_with_a_part_missing(shared: EngineProcess, tmp_path: Path) -> None:
    """A whole file that claims to be the first of three."""
    path = tmp_path / "model-00001-of-00003.gguf"
    shutil.copy(make_model(extra=(("split.no", 0), ("split.count", 3))), path)
    failure = failure_of(shared, path)
    assert "missing" in failure.what and "model-00002-of-00003.gguf" in failure.why


def test_file_name_with_control_characters(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b]0;title\x07.gguf"
    path.write_bytes(b"not a model")
    failure_of(shared, path)


def test_file_name_that_is_not_ascii(shared: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "modèle 模型.gguf"
    shutil.copy(make_model(), path)
    shared.load(profile(path, sampling=SHORT))
    assert shared.generate("hello").finished.reason == "length"


def test_tensor_override_of_an_unknown_buffer(shared: EngineProcess) -> None:
    failure = failure_of(shared, make_model(), tensor_overrides=("ffn_.*=CUDA7",))
    assert "CUDA7" in failure.what and "CPU" in failure.why


def test_tensor_override_that_is_no_pattern(shared: EngineProcess) -> None:
    failure = failure_of(shared, make_model(), tensor_overrides=("ffn_(=CPU",))
    assert failure.why


def test_tensor_override_that_works(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), tensor_overrides=(r"ffn_.*=CPU",), sampling=SHORT))
    assert shared.generate("hello").finished.reason == "length"


def test_more_context_than_memory(shared: EngineProcess) -> None:
    """Allocating it would work, since Linux overcommits; the OOM killer would come later."""
    model = make_model(n_layer=64, n_head_kv=4, n_ctx_train=16_777_216, n_vocab=300)
    failure = failure_of(shared, model, n_ctx=16_777_216)
    assert "does not fit" in failure.what and "GiB" in failure.why and "n_ctx" in failure.next
    shared.load(profile(model, sampling=SHORT, n_ctx=1024))
    changed = shared.try_load(profile(model, sampling=SHORT, n_ctx=16_777_216), "context")
    assert isinstance(changed, LoadFailed) and changed.restored == "test"
    assert shared.generate("hello").finished.reason == "length"


TEMPLATES = {
    "syntax": "{% for message in messages %}{{ message.content }",
    "raises": "{{ raise_exception('not today') }}",
    "undefined": "{{ nothing.at.all }}",
    "huge": "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_broken_template_gives_way_to_a_plain_one(shared: EngineProcess, kind: str) -> None:
    loaded = shared.load(profile(make_model(chat_template=TEMPLATES[kind]), sampling=SHORT))
    assert not loaded.model.has_chat_template
    assert any("template does not work" in note for note in loaded.model.notes)
    assert shared.generate("hello").finished.reason == "length"


def test_missing_template(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model(chat_template=None), sampling=SHORT))
    assert not loaded.model.has_chat_template
    assert any("no chat template" in note for note in loaded.model.notes)
    assert shared.generate("hello").finished.reason == "length"
    assert shared.generate([]).finished.reason in ("length", "failed")


LOOP = "{% for a in range(99999) %}"
ENDLESS = LOOP * 4 + "{% endfor %}" * 4


def test_template_that_never_ends_does_not_hang_the_engine(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model(chat_template=ENDLESS), sampling=SHORT))
    assert any("not done after" in note for note in loaded.model.notes)
    assert shared.generate("hello").finished.reason == "length"
    fine = shared.load(profile(make_model(), sampling=SHORT))
    assert fine.model.has_chat_template, "the next model's template is rendered by the next worker"


def test_template_that_fails_later_is_said_once(shared: EngineProcess) -> None:
    template = "{% if messages | length > 1 %}{{ raise_exception('too long') }}{% endif %}{{ messages[0].content }}"
    shared.load(profile(make_model(chat_template=template), sampling=SHORT))
    conversation = [ChatMessage("user", "a"), ChatMessage("assistant", "b"), ChatMessage("user", "c")]
    before = len(shared.seen)
    assert shared.generate(conversation).finished.reason == "length"
    assert shared.generate(conversation).finished.reason == "length"
    notices = [event for event in shared.seen[before:] if isinstance(event, Notice)]
    assert len(notices) == 1 and "too long" in notices[0].failure.why


def test_template_without_a_system_role_gets_it_in_the_question(shared: EngineProcess) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}<|im_start|>{{ message.content }}{% endfor %}"
    )
    shared.load(profile(make_model(chat_template=template), sampling=SHORT, system_prompt="Be brief."))
    before = len(shared.seen)
    assert shared.generate("hello").finished.reason == "length"
    assert not any(isinstance(event, Notice) for event in shared.seen[before:])

"""LoRA adapters: that they act, how their scale changes, and files that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_adapter, make_model

from pagewise.messages import LoadFailed
from pagewise.settings import Lora, Profile, Sampling

SHORT = Sampling(temperature=0.0, max_tokens=8)


def with_lora(*lora: Lora, model: Path | None = None) -> Profile:
    return profile(model or make_model(), sampling=SHORT, lora=lora)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "style.gguf")


def test_an_adapter_acts_by_its_scale(shared: EngineProcess, adapter: Path) -> None:
    shared.load(with_lora())
    base = shared.generate("hello").ids
    loaded = shared.load(with_lora(Lora(str(adapter))), "context")
    assert loaded.kv_carried == 0 and "LoRA" in loaded.kv_note
    changed = shared.generate("hello").ids
    assert changed != base
    assert shared.load(with_lora(Lora(str(adapter), 0.0)), "live").change == "live"
    silent = shared.generate("hello")
    assert silent.ids == base
    timing = silent.finished.timing
    assert timing is not None and timing.n_reused == 0 and "scale" in timing.reuse_note
    shared.load(with_lora(Lora(str(adapter))), "live")
    assert shared.generate("hello").ids == changed


def test_adapters_come_with_the_model_and_go_with_the_context(shared: EngineProcess, adapter: Path) -> None:
    shared.load(with_lora())
    base = shared.generate("hello").ids
    other = make_adapter(adapter.with_name("other.gguf"), seed=21)
    shared.load(with_lora(Lora(str(adapter)), Lora(str(other), 2.0)), "model")
    both = shared.generate("hello").ids
    shared.load(with_lora(Lora(str(other), 2.0)), "context")
    one = shared.generate("hello").ids
    shared.load(with_lora(), "context")
    assert shared.generate("hello").ids == base
    assert len({base, both, one}) == 3


def test_the_same_adapters_carry_the_cache(shared: EngineProcess, adapter: Path) -> None:
    shared.load(with_lora(Lora(str(adapter), 0.5)))
    used = shared.generate("hello").finished.timing
    changed = shared.load(structs.replace(with_lora(Lora(str(adapter), 0.5)), n_ctx=2048), "context")
    assert used is not None and changed.kv_carried == used.kv_used


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no file"),
    "text": (lambda path: path.write_text("not a GGUF file, whatever its name says"), "not"),
    "cut short": (lambda path: path.write_bytes(make_adapter(path).read_bytes()[:-64]), "bytes"),
    "a model": (lambda path: path.write_bytes(make_model().read_bytes()), "whole model"),
    "a control vector": (lambda path: make_adapter(path, general_type="controlvector"), "controlvector"),
    "another kind": (lambda path: make_adapter(path, adapter_type="ia3"), "ia3"),
    "another architecture": (lambda path: make_adapter(path, named="gemma3"), "gemma3"),
    "a larger model": (lambda path: make_adapter(path, n_embd=256), "256 x 4"),
    "more layers": (lambda path: make_adapter(path, n_layer=9), "blk.4.attn_q.weight"),
    "other tensors": (lambda path: make_adapter(path, target="attn_swing"), "attn_swing"),
    "half of it": (lambda path: make_adapter(path, only="lora_a"), "Half"),
    "empty": (lambda path: make_adapter(path, only="nothing"), "nothing in it"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("change", ["context", "model"])
def test_bad_adapters_are_refused_and_the_former_profile_stays(
    shared: EngineProcess, tmp_path: Path, case: str, change: Any
) -> None:
    make, why = BAD[case]
    path = tmp_path / "bad.gguf"
    make(path)
    shared.load(with_lora())
    shared.generate("hello")
    failed = shared.try_load(with_lora(Lora(str(path))), change)
    assert isinstance(failed, LoadFailed) and failed.restored == "test"
    assert "bad.gguf" in failed.failure.what and why in failed.failure.why and failed.failure.next
    timing = shared.generate("hello").finished.timing
    assert timing is not None and timing.n_reused == timing.n_prompt - 1


def test_one_bad_adapter_among_good_ones_leaves_those_that_act(shared: EngineProcess, adapter: Path) -> None:
    shared.load(with_lora(Lora(str(adapter))))
    acts = shared.generate("hello").ids
    bad = Lora(str(adapter.with_name("none.gguf")))
    assert isinstance(shared.try_load(with_lora(bad, Lora(str(adapter), 0.0)), "context"), LoadFailed)
    assert shared.generate("hello").ids == acts

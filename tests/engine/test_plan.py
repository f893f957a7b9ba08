"""What is planned, beside what llama.cpp then takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import Shape, make_hollow, make_model

from pagewise.engine.failures import Cancelled, Failed
from pagewise.engine.llamacpp import breakdown, library, plan, upstream_fit
from pagewise.engine.llamacpp.model import open_model_file
from pagewise.engine.planning import Planner
from pagewise.jobs.base import JobFailed
from pagewise.jobs.plan import RAM, Compared, MakePlan, MemoryPlan, Planned
from pagewise.messages import Load, Stop, encode
from pagewise.profiles.learned import LEAST_MARGIN, learn_load, model_key
from pagewise.settings import Keep, Lora, Profile

KIB = 1024
MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "mixture": {"n_expert": 8},
    "sliding window": {"architecture": "gemma3", "n_layer": 8},
    "recurrent": {"architecture": "mamba"},
    "hybrid": {"architecture": "lfm2"},
    "tied": {"tied": True},
    "a large vocabulary": {"n_vocab": 20_000},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"n_ctx": 512},
    "a long context": {"n_ctx": 4096, "n_ubatch": 128},
    "8-bit KV": {"n_ctx": 2048, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "no flash attention": {"n_ctx": 2048, "flash_attention": "off", "n_ubatch": 64},
    "whole windows": {"n_ctx": 2048, "swa_full": True},
    "copied": {"n_ctx": 512, "load_mode": "none"},
    "a large batch": {"n_ctx": 4096, "n_batch": 4096, "n_ubatch": 2048},
}


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    library.start()


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def make(wanted: Profile) -> MemoryPlan:
    return Planner(lambda: False).plan(wanted, None)


def ram(found: MemoryPlan) -> int:
    return (
        found.mapped_bytes + found.devices[0].weights_bytes + found.devices[0].kv_bytes + found.devices[0].compute_bytes
    )


def close(entry: Compared) -> bool:
    """Models of a test take a few MiB: the target's 200 MiB would hold for any number."""
    return abs(entry.missed_bytes) <= max(64 * KIB, 0.01 * entry.actual_bytes)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_planned_is_what_is_taken(shared: EngineProcess, model: str, setting: str) -> None:
    wanted = profile(make_model(Shape(**MODELS[model])), **SETTINGS[setting])
    before = make(wanted)
    (entry,) = shared.load(wanted).model.planned
    assert entry.device == RAM and entry.actual_bytes > 1024 * KIB
    assert close(entry), entry
    assert ram(before) == entry.predicted_bytes and before.fits and not before.estimate
    assert before.n_ctx == entry.n_ctx


def test_a_context_change_is_planned_too(shared: EngineProcess) -> None:
    wanted = profile(make_model(), n_ctx=512)
    small = shared.load(wanted).model.planned[0]
    large = shared.load(msgspec.structs.replace(wanted, n_ctx=4096), "context").model.planned[0]
    assert close(large) and large.actual_bytes > small.actual_bytes + 3 * 1024 * KIB


@pytest.mark.parametrize("model", ["dense", "sliding window", "recurrent"])
def test_without_the_account_there_are_formulas(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = profile(make_model(Shape(**MODELS[model])), n_ctx=2048)
    exact = make(wanted)
    monkeypatch.setattr(breakdown, "available", False)
    monkeypatch.setattr(library, "model_tensor", None)
    rough = make(wanted)
    assert rough.estimate and any("estimate" in note for note in rough.notes)
    assert ram(rough) == pytest.approx(ram(exact), rel=0.03)


def test_a_vocabulary_that_is_left_out_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_model_file(make_hollow(tmp_path / "hollow.gguf", n_vocab=40_000))
    wanted = profile(file.path)
    without = plan.measure(file, wanted)
    monkeypatch.setattr(plan, "_LARGE_VOCABULARY", 1 << 30)
    assert plan.measure(file, wanted) == without


def test_where_the_weights_are(tmp_path: Path) -> None:
    model = make_model()
    size = sum(tensor.bytes for tensor in open_model_file(model).header.tensors)
    mapped, copied = make(profile(model)), make(profile(model, load_mode="none"))
    locked, repacked = make(profile(model, load_mode="mlock")), make(profile(model, repack="on"))
    assert mapped.mapped_bytes == pytest.approx(size, rel=0.01) and mapped.copied_bytes == 0
    assert copied.mapped_bytes == 0 and copied.copied_bytes == mapped.mapped_bytes == locked.copied_bytes
    assert repacked.mapped_bytes + repacked.copied_bytes == mapped.mapped_bytes
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(bytes(1000 * KIB))
    file = open_model_file(model)
    with_adapter = plan.measure(file, profile(model, lora=(Lora(str(adapter)),)))
    assert with_adapter.ram.weights == plan.measure(file, profile(model)).ram.weights + 1000 * KIB


def test_weights_that_are_streamed() -> None:
    model = make_model(n_layer=8, n_embd=512, n_ff=2048, n_head=8)
    assert make(profile(model)).streamed_bytes == 0
    kept = make(profile(model, placement=Keep("40MiB")))
    assert 0 < kept.streamed_bytes <= kept.mapped_bytes and any("disk" in note for note in kept.notes)


def test_the_largest_context_that_fits(tmp_path: Path) -> None:
    model = make_hollow(tmp_path / "hollow.gguf", n_layer=32, n_embd=4096, n_head=32, n_head_kv=32, n_ctx_train=1 << 24)
    wanted = profile(model, n_ctx=1 << 24)
    found = make(wanted)
    assert not found.fits and any("too small" in note for note in found.notes)
    change = next(entry for entry in found.would_fit if entry.key == "n_ctx")
    n_ctx = int(change.value)
    assert n_ctx % 256 == 0 and f"{n_ctx:,}" in change.text
    # Memory of the machine moves a little between two plans.
    assert make(msgspec.structs.replace(wanted, n_ctx=n_ctx * 9 // 10)).fits
    assert not make(msgspec.structs.replace(wanted, n_ctx=n_ctx * 11 // 10)).fits


def test_the_quant_that_would_fit(tmp_path: Path) -> None:
    layers, size = 4, 1 << 13
    room = make(profile(make_model())).devices[0].free_bytes
    assert room is not None
    layers = int(1.3 * room / (size * size * 4 * 2))
    model = make_hollow(tmp_path / "hollow.gguf", n_layer=layers, n_embd=size, n_ff=size, n_head=64, n_head_kv=1)
    found = make(profile(model, load_mode="none"))
    assert not found.fits
    change = next(entry for entry in found.would_fit if entry.key == "model")
    assert "Q8_0" in change.text and "16.00" in change.text
    assert make(profile(model)).fits, "mapped weights need not fit"


def test_what_the_model_in_force_gives_back(engine: EngineProcess) -> None:
    wanted = profile(make_model(), load_mode="none", n_ctx=4096)
    planned = engine.load(wanted).model.planned[0]
    engine.send(MakePlan(900, wanted))
    found = engine.first(Planned).plan.devices[0]
    assert found.freed_bytes == pytest.approx(planned.actual_bytes, rel=0.02)
    assert found.free_bytes is not None and found.free_bytes > found.freed_bytes


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("ffn_gate_exps=CPU", "blk.0.ffn_gate.weight"),
        (r"blk\.\d+\.attn_outptu\.weight=CPU", "blk.0.attn_output.weight"),
        ("token_emb\\.=CPU", "token_embd.weight"),
    ],
)
def test_an_override_that_matches_nothing(shared: EngineProcess, override: str, said: str) -> None:
    wanted = profile(make_model(), tensor_overrides=(override,))
    (note,) = [note for note in make(wanted).notes if "matches no tensor" in note]
    assert said in note
    assert note in shared.load(wanted).model.notes


def test_an_override_behind_another() -> None:
    found = make(profile(make_model(), tensor_overrides=("ffn=CPU", "ffn_up=CPU")))
    assert any("others before it" in note for note in found.notes)


@pytest.mark.parametrize("pattern", ["ffn_(up", "[", "a{2,1}", "*", "(?P<x>"])
def test_an_override_that_is_no_expression(shared: EngineProcess, pattern: str) -> None:
    wanted = profile(make_model(), tensor_overrides=(f"{pattern}=CPU",))
    with pytest.raises(Failed) as caught:
        make(wanted)
    assert "regular expression" in caught.value.failure.why
    answer = shared.try_load(wanted)
    assert getattr(answer, "failure", None) == caught.value.failure


@pytest.mark.parametrize("pattern", ["(?i)ffn", "a{99999}", "x{"])
def test_an_expression_that_llama_cpp_alone_refuses(shared: EngineProcess, pattern: str) -> None:
    wanted = profile(make_model(), tensor_overrides=(f"{pattern}=CPU",))
    with pytest.raises(Failed) as caught:
        make(wanted)
    assert "tensor overrides" in caught.value.failure.what and "Correct tensor_overrides" in caught.value.failure.next
    answer = shared.try_load(wanted)
    assert getattr(answer, "failure", None) == caught.value.failure


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(Failed) as caught:
        make(profile(make_model(), tensor_overrides=("ffn=CUDA7",)))
    assert "CPU" in caught.value.failure.why


def test_without_a_gpu(tmp_path: Path) -> None:
    found = make(profile(make_model(), n_gpu_layers=3, tensor_split=(1.0, 2.0), main_gpu=4))
    if library.accelerators():
        pytest.skip("there is a GPU")
    assert any("n_gpu_layers and tensor_split and main_gpu" in note for note in found.notes)
    fitted = make(profile(make_model(), n_gpu_layers="fit"))
    assert fitted.fits and fitted.placed is not None and fitted.placed.n_gpu_layers == 0
    assert any("no GPU" in note for note in fitted.notes)


def test_fit_is_loaded(shared: EngineProcess) -> None:
    loaded = shared.load(profile(make_model(), n_gpu_layers="fit"))
    assert loaded.profile.n_gpu_layers == "fit"
    assert any("n_gpu_layers = fit" in note for note in loaded.model.notes)


def test_llama_cpps_own_fit_can_be_asked() -> None:
    if upstream_fit._function() is None:
        pytest.skip("this build has no libllama-common")
    wanted = profile(make_model(), n_gpu_layers="fit")
    found = upstream_fit.upstream_fit(open_model_file(Path(wanted.model)), wanted, {}, 4096)
    assert found is not None and found.n_gpu_layers == "all" and found.tensor_overrides == ()


def test_a_file_that_vanishes(shared: EngineProcess, tmp_path: Path) -> None:
    model = make_hollow(tmp_path / "gone.gguf")
    shared.send(MakePlan(901, profile(model)))
    assert shared.first(Planned).plan.fits
    model.unlink()
    shared.send(MakePlan(902, profile(model)))
    assert "There is no file" in shared.first(JobFailed).failure.what


def test_a_file_that_changes_is_planned_anew(tmp_path: Path) -> None:
    planner = Planner(lambda: False)
    wanted = profile(make_hollow(tmp_path / "model.gguf"))
    first = planner.plan(wanted, None)
    make_hollow(tmp_path / "model.gguf", n_layer=6)
    assert planner.plan(wanted, None).mapped_bytes > first.mapped_bytes


def test_each_profile_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Profile] = []

    def measure(file: Any, wanted: Profile) -> plan.Sizes:
        measured.append(wanted)
        return plan.measure(file, wanted)

    monkeypatch.setattr("pagewise.engine.planning.measure", measure)
    planner = Planner(lambda: False)
    wanted = profile(make_model())
    for changes in ({}, {"name": "other"}, {"threads": 2}, {"n_ctx": 2048}, {}):
        planner.plan(msgspec.structs.replace(wanted, **changes), None)
    assert [entry.n_ctx for entry in measured] == [1024, 2048]


def test_a_plan_that_is_not_wanted_any_more() -> None:
    with pytest.raises(Cancelled):
        Planner(lambda: True).plan(profile(make_model()), None)


def test_a_plan_can_be_stopped_before_it_is_begun(engine: EngineProcess) -> None:
    wanted = profile(make_model())
    other = msgspec.structs.replace(wanted, n_ctx=2048)
    commands = (Load(1, wanted), MakePlan(2, other), Stop(2), MakePlan(3, other))
    assert engine.process.stdin is not None
    os.write(engine.process.stdin.fileno(), b"".join(map(encode, commands)))
    failed = engine.first(JobFailed)
    assert failed.id == 2 and failed.cancelled
    assert engine.first(Planned).id == 3


def test_a_guide_level_that_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = make(Profile(name="small", quant="Q4_K_M"))
    assert found.estimate and any("made on first use" in note for note in found.notes)
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_the_margin_is_what_former_plans_missed() -> None:
    wanted = profile(make_model())
    key = model_key(wanted.model, Path(wanted.model).stat().st_size)
    assert make(wanted).margin_bytes == LEAST_MARGIN and make(wanted).last == ()
    missed = (Compared(RAM, 100 * KIB, LEAST_MARGIN + 300 * KIB, 1024, 0),)
    learn_load(key, missed)
    assert make(wanted).margin_bytes == LEAST_MARGIN + 200 * KIB and make(wanted).last == missed

"""Other quants of a model, made by llama.cpp, and what is said of them beforehand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.engine.harness import EngineProcess, profile
from tests.imatrices import Entry, write_dat, write_gguf
from tests.splitting import split
from tests.synthetic import make_hollow, make_model, make_quantized

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.imatrix import check_imatrix, load_imatrix
from pagewise.engine.llamacpp.quantize import Progress, make, predict, quantize, recipe_for
from pagewise.guide.files import guide_path
from pagewise.models.gguf import read_header


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    library.start()


def importance(source: Path, columns: int | None = None) -> dict[str, Entry]:
    """Every matrix of the layers, with a sum for each column and expert; every other expert was never reached."""
    random = np.random.default_rng(3)
    entries: dict[str, Entry] = {}
    for tensor in read_header(source).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
            sums = random.uniform(0.5, 50, (columns or tensor.shape[0]) * experts).astype(np.float32)
            entries[tensor.name] = (sums, [40.0, 0.0, *[8.0] * (experts - 2)] if experts > 1 else [40.0])
    return entries


def test_q4_k_m_is_smaller_and_runs(shared: EngineProcess) -> None:
    source = make_model(n_embd=256, n_ff=512)
    target = make_quantized(source, "Q4_K_M")
    assert target.stat().st_size < 0.5 * source.stat().st_size
    model = shared.load(profile(target)).model
    assert model.quant == "Q4_K_M"
    assert shared.generate("hello").finished.reason == "length"


def test_nothing_is_left_of_what_did_not_work(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(make_model().read_bytes()[:5000])
    with pytest.raises(Failed) as caught:
        quantize(source, tmp_path / "target.gguf", "Q4_K_M")
    assert "source.gguf" in caught.value.failure.what
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_what_llama_cpp_cannot_do_is_told_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        quantize(make_model(architecture="mystery"), tmp_path / "target.gguf", "Q4_K_M")
    assert "unknown model architecture" in caught.value.failure.why
    assert list(tmp_path.iterdir()) == []


def test_unknown_quant(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        quantize(make_model(), tmp_path / "target.gguf", "Q4_K_XXL\x1b[0m")
    assert "Q4_K_M" in caught.value.failure.why and caught.value.failure.what.isprintable()


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        quantize(make_model(), tmp_path / "nowhere" / "target.gguf", "Q8_0")


def test_progress_goes_tensor_by_tensor(tmp_path: Path) -> None:
    steps: list[Progress] = []
    target = tmp_path / "target.gguf"
    source = make_model()
    quantize(source, target, "Q8_0", steps.append)
    assert read_header(target).metadata["general.file_type"] == 7
    names = {tensor.name for tensor in read_header(source).tensors}
    assert {step.tensor for step in steps[:-1]} == names and len(steps) == len(names) + 1
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == target.stat().st_size


@pytest.mark.parametrize("level", ["F32", "BF16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "IQ4_XS", "Q2_K"])
def test_the_size_is_predicted_to_the_byte(tmp_path: Path, level: str) -> None:
    recipe = recipe_for(guide_path(), level)
    prediction = predict(recipe)
    make(recipe, prediction, tmp_path / "made.gguf")
    assert (tmp_path / "made.gguf").stat().st_size == prediction.bytes


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: make_model(n_expert=4, n_embd=256, n_ff=512), id="experts"),
        pytest.param(lambda: make_model(architecture="mamba"), id="mamba"),
        pytest.param(lambda: make_model(architecture="gemma3", tied=True), id="gemma"),
        pytest.param(lambda: make_model(weights="Q8_0"), id="quantized"),
    ],
)
def test_the_size_is_predicted_for_other_shapes(tmp_path: Path, source: object) -> None:
    recipe = recipe_for(source(), "Q4_K_M")  # type: ignore[operator]
    prediction = predict(recipe)
    make(recipe, prediction, tmp_path / "made.gguf")
    assert (tmp_path / "made.gguf").stat().st_size == prediction.bytes


def test_a_file_of_fifty_gigabytes_is_predicted_without_reading_it(tmp_path: Path) -> None:
    source = make_hollow(tmp_path / "big.gguf", n_layer=48, n_embd=8192, n_ff=28672, n_head=64, n_head_kv=8)
    assert source.stat().st_size > 50e9
    prediction = predict(recipe_for(source, "Q4_K_M"))
    assert 0.26 < prediction.bytes / source.stat().st_size < 0.34


def test_all_parts_of_a_split_file_become_one(tmp_path: Path) -> None:
    whole = make_model(n_embd=256, n_ff=512)
    first = split(whole, tmp_path / "model-F16", 3)
    for source in (first, first.with_name("model-F16-00002-of-00003.gguf")):
        recipe = recipe_for(source, "Q4_K_M")
        prediction = predict(recipe)
        target = tmp_path / f"from-{source.stem[-14]}.gguf"
        make(recipe, prediction, target)
        assert target.stat().st_size == prediction.bytes
        assert "split.count" not in read_header(target).metadata
    quantize(whole, tmp_path / "whole.gguf", "Q4_K_M")
    assert data_of(target) == data_of(tmp_path / "whole.gguf")


def data_of(path: Path) -> dict[str, bytes]:
    raw = path.read_bytes()
    return {tensor.name: raw[tensor.start : tensor.end] for tensor in read_header(path).tensors}


@pytest.mark.parametrize("experts", [0, 4])
def test_an_importance_matrix_changes_the_weights_and_is_named_in_the_file(tmp_path: Path, experts: int) -> None:
    source = make_model(n_embd=256, n_ff=512, n_expert=experts)
    imatrix = load_imatrix(write_gguf(tmp_path / "imatrix.gguf", importance(source)))
    recipe = recipe_for(source, "Q2_K_S", imatrix)
    prediction = predict(recipe)
    changed = [tensor for tensor in recipe.tensors if prediction.types[tensor.name] != tensor.type]
    assert changed and check_imatrix(imatrix, changed) == ""
    target = tmp_path / "target.gguf"
    make(recipe, prediction, target)
    assert target.stat().st_size == prediction.bytes
    metadata = read_header(target).metadata
    assert metadata["quantize.imatrix.file"] == "imatrix.gguf"
    assert metadata["quantize.imatrix.dataset"] == "wiki.txt"
    assert metadata["quantize.imatrix.entries_count"] == len(imatrix.entries)
    assert metadata["quantize.imatrix.chunks_count"] == 7
    quantize(source, tmp_path / "without.gguf", "Q4_K_M")
    with_it = recipe_for(source, "Q4_K_M", imatrix)
    make(with_it, predict(with_it), tmp_path / "with.gguf")
    assert data_of(tmp_path / "with.gguf") != data_of(tmp_path / "without.gguf")


def test_both_formats_of_an_importance_matrix_say_the_same(tmp_path: Path) -> None:
    entries = importance(make_model())
    new = load_imatrix(write_gguf(tmp_path / "new.gguf", entries))
    old = load_imatrix(write_dat(tmp_path / "old.dat", entries))
    assert (old.dataset, old.chunks) == (new.dataset, new.chunks) == ("wiki.txt", 7)
    assert old.entries.keys() == new.entries.keys()
    for name, values in new.entries.items():
        np.testing.assert_allclose(values, old.entries[name], rtol=1e-6)
        np.testing.assert_allclose(values, entries[name][0] / 40.0, rtol=1e-6)


def test_an_expert_that_was_never_reached_weighs_all_alike(tmp_path: Path) -> None:
    source = make_model(n_expert=4)
    imatrix = load_imatrix(write_gguf(tmp_path / "imatrix.gguf", importance(source)))
    values = imatrix.entries["blk.0.ffn_up_exps.weight"].reshape(4, -1)
    assert (values[1] == 1).all() and (values[0] != 1).any()


@pytest.mark.parametrize("format", ["gguf", "dat"])
def test_an_importance_matrix_of_another_model_is_refused(tmp_path: Path, format: str) -> None:
    entries = importance(make_model(), columns=64)
    write = write_gguf if format == "gguf" else write_dat
    imatrix = load_imatrix(write(tmp_path / "other", entries))
    with pytest.raises(Failed) as caught:
        check_imatrix(imatrix, read_header(make_model()).tensors)
    assert "another model" in caught.value.failure.why


def test_matrices_without_importance_are_told(tmp_path: Path) -> None:
    entries = importance(make_model())
    del entries["blk.2.ffn_up.weight"]
    imatrix = load_imatrix(write_dat(tmp_path / "imatrix.dat", entries))
    tensors = [tensor for tensor in read_header(make_model()).tensors if len(tensor.shape) > 1]
    assert "1 of 30 matrices: blk.2.ffn_up.weight" in check_imatrix(imatrix, tensors)


@pytest.mark.parametrize("cut", [0, 3, 4, 10, 30, 200, -40])
def test_a_damaged_importance_matrix_is_refused(tmp_path: Path, cut: int) -> None:
    path = write_dat(tmp_path / "imatrix.dat", importance(make_model()))
    path.write_bytes(path.read_bytes()[:cut])
    if cut < 0:
        path.write_bytes(path.read_bytes() + b"\xff" * 8)
    with pytest.raises(Failed) as caught:
        load_imatrix(path)
    assert "imatrix.dat" in caught.value.failure.what


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    entries = importance(make_model())
    next(iter(entries.values()))[0][3] = np.nan
    with pytest.raises(Failed) as caught:
        load_imatrix(write_gguf(tmp_path / "imatrix.gguf", entries))
    assert "no numbers" in caught.value.failure.why


def test_a_model_is_no_importance_matrix() -> None:
    with pytest.raises(Failed) as caught:
        load_imatrix(make_model())
    assert "importance matrix" in caught.value.failure.what


def test_a_level_that_needs_an_importance_matrix_says_so(tmp_path: Path) -> None:
    recipe = recipe_for(make_model(n_embd=256, n_ff=512), "IQ2_XXS")
    prediction = predict(recipe)
    assert prediction.needs_imatrix
    with pytest.raises(Failed) as caught:
        make(recipe, prediction, tmp_path / "target.gguf")
    assert "--imatrix" in caught.value.failure.next
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    shutil.copy(make_model(), source)
    recipe = recipe_for(source, "Q8_0")
    prediction = predict(recipe)
    shutil.copy(make_model(n_layer=3), source)
    with pytest.raises(Failed) as caught:
        make(recipe, prediction, tmp_path / "target.gguf")
    assert "other tensors" in caught.value.failure.why
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]

"""Other quants of a model, made by llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model, make_quantized

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.quantize import quantize
from pagewise.models.gguf import read_header


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    library.start()


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
    assert "source.gguf" in caught.value.failure.what and "llama.cpp says" in caught.value.failure.why
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_unknown_quant(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        quantize(make_model(), tmp_path / "target.gguf", "Q4_K_XXL\x1b[0m")
    assert "Q4_K_M" in caught.value.failure.why and caught.value.failure.what.isprintable()


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        quantize(make_model(), tmp_path / "nowhere" / "target.gguf", "Q8_0")


def test_progress_and_result(tmp_path: Path) -> None:
    done: list[int] = []
    target = tmp_path / "target.gguf"
    quantize(make_model(), target, "Q8_0", done.append)
    assert read_header(target).metadata["general.file_type"] == 7
    assert done == sorted(done) and done[-1] == target.stat().st_size

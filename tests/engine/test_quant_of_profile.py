"""A profile's quant level: the file of that level, or a word on how to make it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model, make_quantized

from pagewise.jobs.plan import MakePlan, Planned
from pagewise.messages import Loaded, LoadFailed

SHAPE = {"n_embd": 256, "n_ff": 512}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model-F16.gguf"
    path.write_bytes(make_model(**SHAPE).read_bytes())
    return path


def test_the_file_of_the_level_beside_the_model_is_loaded(shared: EngineProcess, source: Path) -> None:
    made = source.with_name("model-Q4_K_M.gguf")
    made.write_bytes(make_quantized(make_model(**SHAPE), "Q4_K_M").read_bytes())
    loaded = shared.load(profile(source, quant="q4_k_m"))
    assert loaded.model.path == str(made) and loaded.model.quant == "Q4_K_M"
    shared.send(MakePlan(77, profile(source, quant="Q4_K_M")))
    planned = shared.first(Planned)
    shared.send(MakePlan(78, profile(made)))
    assert planned.plan.mapped_bytes == shared.first(Planned).plan.mapped_bytes > 0


def test_the_models_own_level_is_the_file_itself(shared: EngineProcess, source: Path) -> None:
    loaded = shared.try_load(profile(source, quant="F16"))
    assert isinstance(loaded, Loaded) and loaded.model.path == str(source)


@pytest.mark.parametrize(("quant", "told"), [("Q8_0", "pagewise quantize"), ("Q9_Z", "no quant level")])
def test_a_level_that_is_not_there_is_refused_with_what_to_do(
    shared: EngineProcess, source: Path, quant: str, told: str
) -> None:
    failed = shared.try_load(profile(source, quant=quant))
    assert isinstance(failed, LoadFailed)
    assert told in failed.failure.what + failed.failure.next

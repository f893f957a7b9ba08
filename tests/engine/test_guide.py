"""The guide through a real engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess

from pagewise.guide.files import GuideError, guide_path
from pagewise.messages import LoadFailed, LoadProgress
from pagewise.settings import Profile, Sampling

SAMPLING = Sampling(temperature=0.0, max_tokens=200)


def has_guide() -> bool:
    try:
        return guide_path().is_file()
    except GuideError:
        return False


needs_guide = pytest.mark.skipif(not has_guide(), reason="the guide has not been trained yet: make guide")


@needs_guide
def test_the_guide_answers_and_ends_by_itself(engine: EngineProcess) -> None:
    model = engine.load(Profile(name="guide", sampling=SAMPLING, n_ctx=0)).model
    assert model.quant == "F16" and model.has_chat_template and model.notes == ()
    reply = engine.generate("What is quantization?")
    assert reply.finished.reason == "end"
    assert len(reply.text.split()) > 5 and reply.text.isprintable()


@needs_guide
def test_a_quant_of_the_guide_is_made_once(tmp_path: Path) -> None:
    with EngineProcess(XDG_CACHE_HOME=str(tmp_path)) as engine:
        model = engine.load(Profile(name="guide-q4", quant="Q4_K_M", sampling=SAMPLING, n_ctx=0)).model
        assert model.quant == "Q4_K_M" and Path(model.path).is_relative_to(tmp_path)
        assert any(isinstance(event, LoadProgress) and event.phase == "quantize" for event in engine.seen)
        engine.seen.clear()
        f16 = engine.load(Profile(name="guide", sampling=SAMPLING, n_ctx=0)).model
        again = engine.load(Profile(name="guide-q4", quant="Q4_K_M", sampling=SAMPLING, n_ctx=0)).model
        assert again.path == model.path and again.vocabulary == f16.vocabulary
        assert not any(isinstance(event, LoadProgress) and event.phase == "quantize" for event in engine.seen)
        assert engine.generate("What is quantization?").finished.reason == "end"


def test_a_guide_that_cannot_be_had_is_a_failure(engine: EngineProcess) -> None:
    answer = engine.try_load(Profile(name="guide", quant="Q9_Z"))
    assert isinstance(answer, LoadFailed)
    assert "guide" in answer.failure.what.lower() and answer.failure.next

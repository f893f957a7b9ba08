"""Models side by side as a job of the host, with real engine processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.host.talk import Talk, children, gone
from tests.synthetic import make_model, make_quantized

from pagewise.client import HostClient
from pagewise.guide.files import guide_path
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.compare import CompareModels, ModelsCompared
from pagewise.messages import Stop
from pagewise.settings import Profile

GUIDE = Profile(name="guide", threads=1, n_ctx=1024, repack="off")


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    pages = Path(__file__).parents[3] / "docs"
    path = tmp_path / "prose.txt"
    path.write_text("\n".join(page.read_text() for page in sorted(pages.glob("*.md")))[:12_000], encoding="utf-8")
    return path


def of_file(path: Path, **keys: Any) -> Profile:
    return Profile(name=path.stem, model=str(path), threads=1, n_ctx=1024, repack="off", **keys)


def guide_at(folder: Path, level: str) -> Path:
    source = folder / "guide.gguf"
    if not source.exists():
        source.symlink_to(guide_path())
    return make_quantized(source, level)


def request(text: Path | None, *profiles: Profile, **more: Any) -> CompareModels:
    settings: dict[str, Any] = {"n_ctx": 256, "chunks": 2, "max_tokens": 12, **more}
    labels = tuple("ABCD"[: len(profiles)])
    return CompareModels(1, profiles, labels, "" if text is None else str(text), **settings)


async def ended(talk: Talk) -> ModelsCompared | JobFailed:
    event = await talk.wait(object, lambda event: isinstance(event, ModelsCompared | JobFailed))  # type: ignore[type-var]
    assert isinstance(event, ModelsCompared | JobFailed)
    return event


async def compared(talk: Talk) -> ModelsCompared:
    answer = await ended(talk)
    assert isinstance(answer, ModelsCompared), answer
    return answer


async def test_two_levels_of_the_guide_side_by_side(real: Talk, prose: Path, tmp_path: Path) -> None:
    q4 = guide_at(tmp_path, "Q4_K_M")
    real.send(request(prose, GUIDE, of_file(q4)))
    first, second = (await compared(real)).models
    assert (first.level, second.level) == ("F16", "Q4_K_M")
    assert second.file_bytes == size_of(q4) and second.bits_per_weight == pytest.approx(4.99, abs=0.02)
    assert first.bits_per_weight == pytest.approx(16.01, abs=0.02)
    for model in (first, second):
        assert model.failure is None and model.why_no_quality == ""
        for figure in (model.load_ms, model.ttft_ms, model.prefill_rate, model.decode_rate):
            assert figure is not None and figure > 0
        (ram,) = (held for held in model.memory if held.device == "RAM")
        assert model.file_bytes is not None and ram.bytes > ram.mapped_bytes > 0.9 * model.file_bytes
        assert model.quality is not None and model.quality.scored == 2 * 127
        assert model.answer and 0 < model.n_answer <= 12
    assert first.quality is not None and second.quality is not None
    assert first.quality.divergence is None and first.same_answer is None
    assert second.quality.divergence is not None and 0 < second.quality.divergence.kl < 1
    assert second.same_answer is not None and 0 <= second.same_answer <= 12
    assert second.cached is not None and 0 <= second.cached <= 1
    assert left_in_cache(tmp_path) == []


def size_of(path: Path) -> int:
    return path.stat().st_size


def left_in_cache(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


async def test_the_same_model_twice_is_the_same(real: Talk, prose: Path) -> None:
    real.send(request(prose, GUIDE, GUIDE))
    first, second = (await compared(real)).models
    assert first.quality is not None and second.quality is not None and second.quality.divergence is not None
    assert second.quality.perplexity == pytest.approx(first.quality.perplexity, rel=1e-6)
    assert second.quality.divergence.same_top == 1.0
    assert second.same_answer == second.n_answer == first.n_answer and second.answer == first.answer


async def test_without_a_text_there_is_no_perplexity_and_a_reason(real: Talk) -> None:
    real.send(request(None, GUIDE))
    (only,) = (await compared(real)).models
    assert only.quality is None and "--text" in only.why_no_quality and only.decode_rate is not None


async def test_one_that_cannot_be_loaded_does_not_end_the_others(real: Talk, prose: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(make_model().read_bytes()[:9000])
    real.send(request(prose, GUIDE, of_file(broken), GUIDE))
    first, second, third = (await compared(real)).models
    assert second.failure is not None and "broken.gguf" in second.failure.what
    assert first.failure is None and third.quality is not None and third.quality.divergence is not None


async def test_another_vocabulary_is_said_so(real: Talk, prose: Path) -> None:
    real.send(request(prose, GUIDE, of_file(make_model())))
    _, second = (await compared(real)).models
    assert second.quality is not None and second.quality.divergence is None
    assert "vocabulary" in second.quality.why_no_divergence and second.same_answer is None


@pytest.mark.parametrize("what", ["no text", "short text", "no reference"])
async def test_what_makes_it_pointless_ends_it(real: Talk, prose: Path, tmp_path: Path, what: str) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Three words only.", encoding="utf-8")
    asked = {
        "no text": request(tmp_path / "nowhere.txt", GUIDE, GUIDE),
        "short text": request(short, GUIDE, GUIDE),
        "no reference": request(prose, of_file(tmp_path / "nothing.gguf"), GUIDE),
    }[what]
    real.send(asked)
    failed = await ended(real)
    assert isinstance(failed, JobFailed)
    named = {"no text": "nowhere.txt", "short text": "short.txt is too short", "no reference": "nothing.gguf"}[what]
    assert named in failed.failure.what


async def test_stopped_it_leaves_neither_engine_nor_file(real: Talk, prose: Path, tmp_path: Path) -> None:
    large = of_file(make_model(n_layer=8, n_embd=512, n_ff=2048))
    real.send(request(prose, large, GUIDE, chunks=0))
    await real.wait(JobProgress, lambda event: event.phase == "A: perplexity" and event.done > 0)
    host = real.client.pid
    assert host is not None
    engines = children(host)
    assert len(engines) == 1
    real.send(Stop(1))
    failed = await ended(real)
    assert isinstance(failed, JobFailed) and failed.cancelled
    await gone(*engines)
    assert left_in_cache(tmp_path) == []

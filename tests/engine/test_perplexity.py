"""Perplexity and divergence: the formulas, the job in an engine, and llama-perplexity itself as the judge."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model, make_quantized

from pagewise.engine.llamacpp.logits_file import Extent, LogitsReader, LogitsWriter
from pagewise.engine.llamacpp.perplexity import distances, encode, mean, nll, perplexity, ratio, rows_of, words_per_row
from pagewise.guide.files import guide_path
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.compare import MeasureQuality, Quality, QualityMeasured
from pagewise.messages import Loaded, Stop

ROOT = Path(__file__).parents[2]
PEER = ROOT / "build" / "peers" / "llama-perplexity"
peer = pytest.mark.skipif(not PEER.exists(), reason="llama-perplexity is not built: make peers")


# ---- the formulas ----------------------------------------------------------------------------------------------------


def some_logits(rows: int = 40, n_vocab: int = 301, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, n_vocab)) * 3).astype(np.float32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """As the textbook has it, in double precision."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    result: np.ndarray = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    return result


def targets(rows: int = 40, n_vocab: int = 301) -> np.ndarray:
    return np.random.default_rng(2).integers(0, n_vocab, rows).astype(np.int32)


def test_negative_log_likelihood_is_that_of_the_textbook() -> None:
    logits, ids = some_logits(), targets()
    expected = -log_softmax(logits)[np.arange(40), ids]
    np.testing.assert_allclose(nll(rows_of(logits), ids), expected, rtol=1e-5)


def test_divergence_is_that_of_the_textbook_but_for_sixteen_bits() -> None:
    reference, other, ids = some_logits(seed=1), some_logits(seed=1) + 0.3 * some_logits(seed=5), targets()
    found = distances(rows_of(other), ids, encode(rows_of(reference)))
    log_p, log_q = log_softmax(reference), log_softmax(other)
    np.testing.assert_allclose(found.kl, (np.exp(log_p) * (log_p - log_q)).sum(axis=1), rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(found.reference_nll, -log_p[np.arange(40), ids], atol=2e-4)
    np.testing.assert_array_equal(found.same_top, reference.argmax(axis=1) == other.argmax(axis=1))


def test_a_model_does_not_diverge_from_itself() -> None:
    rows = rows_of(some_logits())
    found = distances(rows, targets(), encode(rows))
    assert abs(found.kl).max() < 1e-4 and found.same_top.all()


def test_rows_of_equal_logits_and_of_one_sure_token_are_encoded() -> None:
    logits = np.zeros((2, 8), np.float32)
    logits[1, 3] = 1000
    ids = np.array([0, 3], np.int32)
    found = distances(rows_of(logits), ids, encode(rows_of(logits)))
    np.testing.assert_allclose(found.kl, 0, atol=1e-5)
    np.testing.assert_allclose(found.reference_nll, [math.log(8), 0], atol=1e-5)


def test_errors_are_standard_errors() -> None:
    values = np.random.default_rng(3).normal(2.0, 0.5, 10_000)
    estimate = mean(values)
    assert estimate.value == pytest.approx(2.0, abs=0.02) and estimate.error == pytest.approx(0.005, rel=0.05)
    assert perplexity(values).value == pytest.approx(math.exp(estimate.value))
    assert perplexity(values).error == pytest.approx(math.exp(estimate.value) * estimate.error)
    assert mean(values[:5]).error == 0.0


def test_the_ratio_of_two_that_go_together_is_surer_than_either() -> None:
    base = np.random.default_rng(3).normal(2.0, 0.5, 10_000)
    other = base + np.random.default_rng(4).normal(0.01, 0.02, 10_000)
    found = ratio(other, base)
    assert found.value == pytest.approx(math.exp(0.01), abs=1e-3)
    assert found.error == pytest.approx(0.0002, rel=0.1) and found.error < mean(base).error / 10


def test_predictions_come_back_from_the_file(tmp_path: Path) -> None:
    extent, ids = Extent(16, 301, 2), list(range(40))
    path = tmp_path / "predictions"
    path.touch()
    codes = encode(rows_of(some_logits(2 * extent.rows)))
    with LogitsWriter(path, extent, ids) as writer:
        for row in range(0, len(codes), 3):
            writer.write(codes[row : row + 3])
    assert path.stat().st_size == extent.bytes
    reader = LogitsReader(path)
    assert reader.is_of(extent, ids) and not reader.is_of(extent, [1, *ids[1:]])
    assert not reader.is_of(extent._replace(n_vocab=302), ids)
    np.testing.assert_array_equal(reader.read(3, 5), codes[3:8])


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess() as engine:
        engine.hello()
        yield engine


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the program's own pages say: more than 6000 tokens for any tokenizer here."""
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))]
    path.write_text("\n".join(pages)[:30_000] + "\n", encoding="utf-8")
    return path


def measure(engine: EngineProcess, model: Path, text: Path, logits: Path | None = None, **more: object) -> Quality:
    answer = try_to_measure(engine, model, text, logits, **more)
    assert isinstance(answer, QualityMeasured), answer
    return answer.quality


def try_to_measure(
    engine: EngineProcess, model: Path, text: Path, logits: Path | None = None, **more: object
) -> QualityMeasured | JobFailed:
    loaded = engine.load(profile(model))
    assert isinstance(loaded, Loaded)
    id = engine.next_id()
    settings: dict[str, object] = {"n_ctx": 512, "chunks": 4, "logits": str(logits or ""), **more}
    engine.send(MeasureQuality(id, str(text), **settings))  # type: ignore[arg-type]
    event, _ = engine.until(lambda event: isinstance(event, QualityMeasured | JobFailed))
    assert isinstance(event, QualityMeasured | JobFailed)
    return event


def predictions(folder: Path) -> Path:
    path = folder / "predictions"
    path.touch()
    return path


def test_a_text_is_scored_by_the_second_half_of_each_chunk(engine: EngineProcess, prose: Path) -> None:
    quality = measure(engine, guide_path(), prose, chunks=3)
    assert (quality.chunks, quality.n_ctx, quality.scored) == (3, 512, 3 * 255)
    assert 1 < quality.perplexity < 20_000 and 0 < quality.error < quality.perplexity
    steps = [event for event in engine.seen if isinstance(event, JobProgress) and event.phase == "perplexity"]
    assert [step.done for step in steps[-3:]] == [0, 1, 2] and "so far" in steps[-1].detail


def test_a_quant_is_near_its_source_and_the_source_nearest(engine: EngineProcess, prose: Path, tmp_path: Path) -> None:
    logits = predictions(tmp_path)
    reference = measure(engine, guide_path(), prose, logits, is_reference=True)
    assert reference.divergence is None and "reference" in reference.why_no_divergence
    itself = measure(engine, guide_path(), prose, logits).divergence
    q8 = measure(engine, make_quantized(guide_path_copy(tmp_path), "Q8_0"), prose, logits).divergence
    q2 = measure(engine, make_quantized(guide_path_copy(tmp_path), "Q2_K"), prose, logits).divergence
    assert itself is not None and q8 is not None and q2 is not None
    assert itself.kl < 1e-5 and itself.same_top == 1.0 and itself.ppl_ratio == pytest.approx(1, abs=1e-4)
    assert itself.kl < q8.kl < q2.kl and q8.same_top > q2.same_top
    assert q2.kl < q2.kl_99 <= q2.kl_max and 0 < q2.kl_error < q2.kl


def guide_path_copy(folder: Path) -> Path:
    path = folder / "guide.gguf"
    if not path.exists():
        path.symlink_to(guide_path())
    return path


def test_another_vocabulary_has_no_divergence(engine: EngineProcess, prose: Path, tmp_path: Path) -> None:
    logits = predictions(tmp_path)
    measure(engine, guide_path(), prose, logits, is_reference=True, chunks=2)
    other = measure(engine, make_model(), prose, logits, chunks=2)
    assert other.divergence is None and "vocabulary" in other.why_no_divergence


def test_a_text_that_is_too_short_is_told(engine: EngineProcess, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("Too short for two chunks.", encoding="utf-8")
    failed = try_to_measure(engine, guide_path(), text)
    assert isinstance(failed, JobFailed) and "short.txt is too short" in failed.failure.what
    assert "512" in failed.failure.why
    text.write_bytes(b"")
    assert isinstance(try_to_measure(engine, guide_path(), text), JobFailed)


def test_chunks_beyond_what_the_model_was_trained_for_are_refused(engine: EngineProcess, prose: Path) -> None:
    failed = try_to_measure(engine, guide_path(), prose, n_ctx=4096)
    assert isinstance(failed, JobFailed) and "trained for" in failed.failure.why


def test_bytes_that_are_no_text_are_scored_as_they_are(engine: EngineProcess, tmp_path: Path) -> None:
    text = tmp_path / "noise.bin"
    text.write_bytes(np.random.default_rng(1).integers(0, 256, 4000, np.uint8).tobytes())
    assert measure(engine, guide_path(), text, chunks=2).perplexity > 1


def test_it_can_be_stopped_and_the_engine_goes_on(engine: EngineProcess, prose: Path) -> None:
    engine.load(profile(make_model(n_layer=8, n_embd=512, n_ff=2048)))
    id = engine.next_id()
    engine.send(MeasureQuality(id, str(prose), 512, 0))
    engine.until(lambda event: isinstance(event, JobProgress) and event.id == id and event.done > 0)
    engine.send(Stop(id))
    failed = engine.first(JobFailed)
    assert failed.id == id and failed.cancelled
    assert measure(engine, guide_path(), prose, chunks=2).scored == 510


@pytest.mark.parametrize("architecture", ["gemma3", "mamba"])
def test_sliding_windows_and_recurrent_states_begin_anew_with_each_chunk(
    engine: EngineProcess, prose: Path, architecture: str
) -> None:
    model = make_model(architecture=architecture)
    both = measure(engine, model, prose, chunks=2, n_ctx=256)
    one = measure(engine, model, prose, chunks=1, n_ctx=256)
    second = 2 * math.log(both.perplexity) - math.log(one.perplexity)
    assert second == pytest.approx(math.log(one.perplexity), rel=0.2)


# ---- llama-perplexity as the judge -----------------------------------------------------------------------------------


def run_peer(*arguments: str) -> str:
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None
    libraries = Path(spec.origin).parents[1] / "lib"
    done = subprocess.run(
        [str(PEER), "--no-repack", "-t", "2", "-fit", "off", "-lv", "4", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def figure(said: str, label: str) -> tuple[float, float]:
    found = re.search(rf"{re.escape(label)}\s*[:=]\s*(\S+)\s*(?:±|\+/-)\s*(\S+)", said)
    assert found, said[-3000:]
    return float(found[1]), float(found[2])


@peer
@pytest.mark.parametrize("which", ["guide", "random"])
def test_the_numbers_are_those_of_llama_perplexity(
    engine: EngineProcess, prose: Path, tmp_path: Path, which: str
) -> None:
    source = guide_path_copy(tmp_path) if which == "guide" else make_model(n_layer=6, n_embd=256, n_ff=768, gain=3.0)
    quant = make_quantized(source, "Q4_K_M")
    base = tmp_path / "base"
    common = ("-f", str(prose), "--chunks", "4", "--kl-divergence-base", str(base))
    first = run_peer("-m", str(source), *common)
    second = run_peer("-m", str(quant), *common, "--kl-divergence")

    logits = predictions(tmp_path)
    reference = measure(engine, source, prose, logits, is_reference=True)
    ours = measure(engine, quant, prose, logits)
    far = ours.divergence
    assert far is not None

    ppl, error = figure(first, "Final estimate: PPL")
    assert reference.perplexity == pytest.approx(ppl, rel=1e-3) and reference.error == pytest.approx(error, rel=1e-2)
    ppl, error = figure(second, "Mean PPL(Q)")
    assert ours.perplexity == pytest.approx(ppl, rel=1e-3) and ours.error == pytest.approx(error, rel=1e-2)
    kl, error = figure(second, "Mean    KLD")
    assert far.kl == pytest.approx(kl, rel=1e-3, abs=1e-5) and far.kl_error == pytest.approx(error, rel=1e-2, abs=1e-5)
    value, error = figure(second, "Mean PPL(Q)/PPL(base)")
    assert far.ppl_ratio == pytest.approx(value, rel=1e-3) and far.ppl_ratio_error == pytest.approx(error, rel=2e-2)
    same, error = figure(second, "Same top p")
    # One token of a thousand may fall the other way: other batches, other last bits.
    assert 100 * far.same_top == pytest.approx(same, abs=0.11)
    assert 100 * far.same_top_error == pytest.approx(error, rel=2e-2, abs=1e-3)


@peer
def test_the_predictions_are_kept_as_llama_perplexity_keeps_them(
    engine: EngineProcess, prose: Path, tmp_path: Path
) -> None:
    base, logits = tmp_path / "base", predictions(tmp_path)
    run_peer("-m", str(guide_path()), "-f", str(prose), "--chunks", "2", "--kl-divergence-base", str(base))
    measure(engine, guide_path(), prose, logits, chunks=2, is_reference=True)
    theirs, ours = base.read_bytes(), logits.read_bytes()
    assert len(ours) == len(theirs)
    (n_vocab,) = struct.unpack_from("<i", theirs, 12)
    start = 20 + 4 * 2 * 512
    assert ours[:start] == theirs[:start]
    words = words_per_row(n_vocab)
    rows = [np.frombuffer(raw, "<u2", offset=start).reshape(-1, words).astype(int) for raw in (ours, theirs)]
    assert np.abs(rows[0][:, 4 : 4 + n_vocab] - rows[1][:, 4 : 4 + n_vocab]).max() < 65535 / 1000

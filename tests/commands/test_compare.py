"""The table that decides a quant level, as it is written."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pagewise.commands.compare import letters, lines, named, request_for
from pagewise.commands.output import as_json
from pagewise.failure import Failure
from pagewise.jobs.compare import PROMPT, ComparedModel, DeviceBytes, Divergence, ModelsCompared, Quality
from pagewise.settings import Profile

QUALITY = Quality(512, 40, 20_500, 10_200, 6.2341, 0.0381, 12.5, why_no_divergence="It is the reference.")
DIVERGENCE = Divergence(0.02817, 0.00042, 0.31, 2.2, 0.9123, 0.0028, 1.0231, 0.0031)
GIB = 1024**3


def a_model(label: str, level: str, share: float, **more: object) -> ComparedModel:
    settings: dict[str, object] = {
        "path": f"/models/Llama-3.1-8B-Instruct-{level}.gguf",
        "level": level,
        "n_params": 8_030_000_000,
        "file_bytes": int(15 * GIB * share),
        "bits_per_weight": 16 * share,
        "load_ms": 2_300.0 * share,
        "cached": 0.4,
        "ttft_ms": 210.0,
        "prefill_rate": 1834.0,
        "decode_rate": 21.4 / share,
        "memory": (DeviceBytes("RAM", int(0.6 * GIB), GIB // 2), DeviceBytes("CUDA0", int(14 * GIB * share))),
        "quality": QUALITY,
        "answer": "A quantized model reads fewer bytes for each token, so that memory bandwidth lasts longer.",
        "n_answer": 20,
    }
    return ComparedModel(label, Profile(name=f"llama-{level}"), **{**settings, **more})  # type: ignore[arg-type]


REFERENCE = a_model("A", "F16", 1.0)
QUANT = a_model(
    "B",
    "Q4_K_M",
    0.31,
    quality=msgspec.structs.replace(QUALITY, perplexity=6.3785, divergence=DIVERGENCE, why_no_divergence=""),
    same_answer=7,
)
BROKEN = ComparedModel(
    "C",
    Profile(name="gone", model="/models/gone.gguf"),
    Failure("gone.gguf is damaged", "It is cut short.", "Fetch it."),
)


def text(*models: ComparedModel, width: int = 80) -> str:
    return "\n".join(lines(ModelsCompared(1, models, PROMPT, "/texts/wiki.test.raw"), width))


def test_the_table_in_eighty_columns() -> None:
    assert text(REFERENCE, QUANT) == (Path(__file__).parent / "compare_80.txt").read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 9])
def test_nothing_is_wider_than_the_terminal(width: int, n: int) -> None:
    models = (REFERENCE, *(msgspec.structs.replace(QUANT, label=label) for label in letters(n)[1:]))
    written = text(*models, width=width)
    assert max(map(len, written.splitlines())) <= width
    assert written.count("perplexity") >= 1 and all(f"{model.label}  " in written for model in models)


def test_a_long_name_is_clipped_in_its_middle() -> None:
    long = msgspec.structs.replace(QUANT, path="/models/" + "x" * 300 + "-Q4_K_M.gguf")
    second = text(REFERENCE, long).splitlines()[1]
    assert len(second) == 80 and second.startswith("B  llama") and second.endswith("-Q4_K_M.gguf)")


def test_what_failed_is_told_below() -> None:
    written = text(REFERENCE, QUANT, BROKEN)
    assert "C could not be measured" in written and "gone.gguf is damaged" in written and "Fetch it." in written


def test_what_is_not_known_has_its_reason() -> None:
    without = msgspec.structs.replace(REFERENCE, quality=None, why_no_quality="No text was given (--text FILE).")
    written = text(without)
    assert "--text FILE" in written and "KL divergence" not in written
    other = msgspec.structs.replace(QUANT, quality=msgspec.structs.replace(QUALITY, why_no_divergence="Other tokens."))
    written = text(REFERENCE, other)
    assert "B: Other tokens." in written and "cannot be compared" in written


def test_answers_act_on_no_terminal() -> None:
    evil = msgspec.structs.replace(QUANT, answer="\x1b[2J\x07 gone\r\n", path="/m/\x1b]0;x.gguf")
    written = text(REFERENCE, evil)
    assert all(letter.isprintable() or letter == "\n" for letter in written)


def test_the_answer_as_json() -> None:
    decoded = msgspec.json.decode(as_json(ModelsCompared(1, (REFERENCE, QUANT, BROKEN), PROMPT, "")))
    assert decoded["models"][1]["quality"]["divergence"]["kl"] == DIVERGENCE.kl
    assert decoded["models"][2]["failure"]["next"] == "Fetch it."


@pytest.mark.parametrize(
    ("argument", "is_file"),
    [("guide", False), ("guide-q4", False), ("x.gguf", True), ("models/x", True), ("~/x", True), ("./guide", True)],
)
def test_profiles_and_files_are_told_apart(argument: str, is_file: bool) -> None:
    assert named(argument) == ((None, argument) if is_file else (argument, None))


def test_a_request_has_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = request_for((Profile(name="a"), Profile(name="b")), Path("t.txt"), None, 512, 0, 50)
    assert request.text == str(tmp_path / "t.txt") and request.prompt == PROMPT and request.labels == ("A", "B")

"""Quant levels by name, by file, and by what they cost."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from tests.synthetic import make_model, make_quantized

from pagewise.models import level_files
from pagewise.models.gguf import read_header
from pagewise.models.level_files import LevelMissing, level_file, level_of, target_for
from pagewise.models.level_names import LEVELS, LevelError, level_named
from pagewise.models.quant import TENSOR_TYPES
from pagewise.models.rounding import RMS_ERROR, Step, errors


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setattr(level_files, "own_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(
    ("text", "level"),
    [("q4_k_m", "Q4_K_M"), ("Q4_K", "Q4_K_M"), ("iq4-xs", "IQ4_XS"), (" fp16 ", "F16"), ("bf16", "BF16")],
)
def test_a_level_by_the_names_people_give_it(text: str, level: str) -> None:
    assert level_named(text) == level


def test_every_level_is_known_by_its_own_name() -> None:
    assert [level_named(level.lower()) for level in LEVELS] == list(LEVELS)


@pytest.mark.parametrize(
    ("text", "near"),
    [("Q4", ("Q4_0", "Q4_K_M")), ("q5_k_xl", ("Q5_K",)), ("Q4_K_N", ("Q4_K_M",)), ("IQ2", ("IQ2_XXS", "IQ2_M"))],
)
def test_a_level_that_is_none_brings_the_nearest_names(text: str, near: tuple[str, ...]) -> None:
    with pytest.raises(LevelError) as caught:
        level_named(text)
    assert all(name in caught.value.failure.next for name in near)


@pytest.mark.parametrize("text", ["", "nothing like it", "\x1b[2J", "Q" * 10_000])
def test_nonsense_gets_the_list(text: str) -> None:
    with pytest.raises(LevelError) as caught:
        level_named(text)
    failure = caught.value.failure
    assert "Q4_K_M" in failure.why + failure.next and failure.what.isprintable() and len(failure.what) < 200


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("Qwen2.5-0.5B-Instruct-F16.gguf", "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf"),
        ("tiny.fp16.gguf", "tiny-Q4_K_M.gguf"),
        ("plain.gguf", "plain-Q4_K_M.gguf"),
        ("F16.gguf", "F16-Q4_K_M.gguf"),
    ],
)
def test_a_new_level_is_named_after_its_source(tmp_path: Path, name: str, target: str) -> None:
    source = tmp_path / name
    source.write_bytes(make_model().read_bytes())
    assert target_for(read_header(source), "Q4_K_M") == tmp_path / target


@pytest.mark.parametrize("folder", ["hub/models--a--b/snapshots/0123", "ollama/blobs"])
def test_nothing_is_put_into_the_store_of_another_program(tmp_path: Path, own: Path, folder: str) -> None:
    source = tmp_path / folder / "sha256-4711"
    source.parent.mkdir(parents=True)
    source.write_bytes(make_model().read_bytes())
    target = target_for(read_header(source), "Q4_K_M")
    assert target.parent == own and target.name.endswith("-Q4_K_M.gguf") and "/" not in target.name


def test_the_file_of_a_level_is_found_beside_its_source_and_where_pagewise_makes_them(
    tmp_path: Path, own: Path
) -> None:
    made = make_quantized(make_model(n_embd=256, n_ff=512), "Q4_K_M")
    source = tmp_path / "model-F16.gguf"
    source.write_bytes(make_model(n_embd=256, n_ff=512).read_bytes())
    assert level_file(source, "f16") == source
    with pytest.raises(LevelMissing) as caught:
        level_file(source, "Q4_K_M")
    assert f"pagewise quantize {source} Q4_K_M" in caught.value.failure.next
    own.mkdir()
    (own / "model-Q4_K_M.gguf").write_bytes(made.read_bytes())
    assert level_file(source, "q4_k") == own / "model-Q4_K_M.gguf"
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(made.read_bytes())
    assert level_file(source, "Q4_K_M") == tmp_path / "model-Q4_K_M.gguf"


@pytest.mark.parametrize("what", ["another model", "another level", "damaged"])
def test_a_file_that_only_has_the_right_name_is_not_taken(tmp_path: Path, what: str) -> None:
    source = tmp_path / "model-F16.gguf"
    source.write_bytes(make_model(n_embd=256, n_ff=512).read_bytes())
    other = {
        "another model": lambda: make_quantized(make_model(n_embd=512, n_ff=512), "Q4_K_M").read_bytes(),
        "another level": lambda: make_quantized(make_model(n_embd=256, n_ff=512), "Q8_0").read_bytes(),
        "damaged": lambda: b"GGUF and no more",
    }[what]
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(other())
    with pytest.raises(LevelMissing):
        level_file(source, "Q4_K_M")


def test_a_level_is_told_by_its_tensors() -> None:
    assert level_of(read_header(make_quantized(make_model(n_embd=256, n_ff=512), "Q4_K_M"))) == "Q4_K_M"


class _Traits(ctypes.Structure):
    """ggml_type_traits, up to what is needed."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("bytes", ctypes.c_size_t),
        ("quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    ]


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "IQ4_XS", "Q3_K", "Q2_K"])
def test_the_error_of_a_type_is_what_ggml_really_makes_of_normal_weights(name: str) -> None:
    from pagewise.engine.llamacpp import library

    ggml = library._base
    assert ggml is not None
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    number, kind = next((number, kind) for number, kind in TENSOR_TYPES.items() if kind.name == name)
    rows, columns = 16, 4096
    weights = np.random.default_rng(5).standard_normal((rows, columns)).astype(np.float32)
    quantized = np.zeros(rows * columns // kind.block * kind.bytes, np.uint8)
    ggml.ggml_quantize_chunk(number, weights.ctypes.data, quantized.ctypes.data, 0, rows, columns, None)
    back = np.empty_like(weights)
    traits = ggml.ggml_get_type_traits(number).contents
    traits.to_float(quantized.ctypes.data, back.ctypes.data, rows * columns)
    error = float(np.sqrt(np.square(back - weights).mean() / np.square(weights).mean()))
    assert error == pytest.approx(RMS_ERROR[name], rel=0.05)


def test_errors_add_up_in_squares_and_only_where_something_is_rounded_again() -> None:
    source, result, direct = errors([Step(100, "Q4_K", "Q3_K"), Step(100, "F32", "F32")])
    assert source == pytest.approx(RMS_ERROR["Q4_K"] / 2**0.5)
    assert direct == pytest.approx(RMS_ERROR["Q3_K"] / 2**0.5)
    assert result == pytest.approx((source**2 + direct**2) ** 0.5)
    kept = errors([Step(7, "Q6_K", "Q6_K")])
    assert kept == pytest.approx((RMS_ERROR["Q6_K"],) * 3)
    assert errors([]) == (0.0, 0.0, 0.0)


def test_weights_that_were_trained_in_few_bits_have_no_error_of_their_own() -> None:
    assert errors([Step(10, "MXFP4", "Q4_K")])[0] == 0.0

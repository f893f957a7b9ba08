from __future__ import annotations

import os
from pathlib import Path

import pytest
from llama_cpp import llama_cpp
from tests.synthetic import make_model

from pagewise.models.gguf import GgufHeader, read_header
from pagewise.models.quant import FILE_TYPE_BY_NAME
from pagewise.models.quant_level import disagree, main_type, named_level, quant_level, stated_level, without_level


def quantized(source: Path, target: Path, level: str) -> GgufHeader:
    """The header of what llama.cpp makes of ``source``."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPE_BY_NAME[level]
    assert llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), params) == 0
    return read_header(target)


@pytest.mark.parametrize("level", ["Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_XS"])
def test_what_llama_cpp_made_is_known_by_its_tensors(level: str, tmp_path: Path) -> None:
    header = quantized(make_model(n_embd=256, n_ff=512, n_layer=4), tmp_path / "m.gguf", level)
    assert quant_level(stated_level(header), main_type(header.tensors)) == level


def test_types_that_stand_in_where_blocks_do_not_divide_a_row_are_of_the_level(tmp_path: Path) -> None:
    header = quantized(make_model(n_embd=128, n_ff=352), tmp_path / "m.gguf", "Q4_K_M")
    assert main_type(header.tensors) != "Q4_K"
    assert quant_level(stated_level(header), main_type(header.tensors)) == "Q4_K_M"


@pytest.mark.parametrize(
    ("name", "level", "rest"),
    [
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "Q4_K_M", "Qwen2.5-7B-Instruct-.gguf"),
        ("model.UD-IQ2_XXS", "UD-IQ2_XXS", "model"),
        ("llama-3-8b-fp16", "F16", "llama-3-8b"),
        ("gpt-oss-20b-mxfp4", "MXFP4", "gpt-oss-20b"),
        ("Q4-tales-13B", "", "Q4-tales-13B"),
        ("Q8_0", "Q8_0", "Q8_0"),
    ],
)
def test_what_a_name_claims(name: str, level: str, rest: str) -> None:
    assert named_level(name) == level
    assert without_level(name) == rest


def test_a_level_that_the_tensors_do_not_show_is_not_believed() -> None:
    assert quant_level("Q8_0", "Q4_K") == "Q4_K"
    assert quant_level("", "IQ3_S") == "IQ3_S"
    assert quant_level("IQ3_M", "IQ3_S") == "IQ3_M"
    assert disagree("Q8_0", "Q4_K_M") and not disagree("UD-Q4_K_XL", "Q4_K_M") and not disagree("", "Q4_0")


def test_the_guide_is_what_it_says() -> None:
    from pagewise.guide.files import guide_path

    header = read_header(Path(guide_path()))
    assert quant_level(stated_level(header), main_type(header.tensors)) == "F16"

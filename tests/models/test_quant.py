from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import pytest

from pagewise.models.quant import FILE_TYPE_BY_NAME, FILE_TYPES, TENSOR_TYPES, tensor_bytes


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    (library, *_) = sorted((Path(spec.origin).parent / "lib").glob("libggml-base.*"))
    loaded = ctypes.CDLL(str(library))
    loaded.ggml_type_name.restype = ctypes.c_char_p
    loaded.ggml_blck_size.restype = ctypes.c_int64
    loaded.ggml_type_size.restype = ctypes.c_size_t
    loaded.ggml_row_size.restype = ctypes.c_size_t
    loaded.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    return loaded


@pytest.mark.parametrize("number", TENSOR_TYPES)
def test_sizes_are_those_of_ggml(ggml: ctypes.CDLL, number: int) -> None:
    kind = TENSOR_TYPES[number]
    assert ggml.ggml_type_name(number).decode().lower() == kind.name.lower()
    assert ggml.ggml_blck_size(number) == kind.block
    assert ggml.ggml_type_size(number) == kind.bytes
    assert ggml.ggml_row_size(number, 4 * kind.block) * 3 == tensor_bytes(kind, (4 * kind.block, 3))


def test_bits_per_weight_count_the_scales() -> None:
    bits = {kind.name: kind.bits_per_weight for kind in TENSOR_TYPES.values()}
    assert (bits["F16"], bits["Q8_0"], bits["Q4_0"], bits["Q4_K"], bits["Q6_K"]) == (16, 8.5, 4.5, 4.5, 6.5625)


def test_file_types_can_be_found_by_name() -> None:
    assert {FILE_TYPE_BY_NAME[name]: name for name in FILE_TYPES.values()} == FILE_TYPES
    assert FILE_TYPE_BY_NAME["Q4_K_M"] == 15


def test_a_tensor_without_a_shape_has_no_bytes() -> None:
    assert tensor_bytes(TENSOR_TYPES[0], ()) == 0

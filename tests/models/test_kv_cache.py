from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.gguf_bytes import Array, T, gguf
from tests.synthetic import Architecture, make_model

from pagewise.models.gguf import GgufHeader, read_header
from pagewise.models.kv_cache import KvCache, kv_cache


def header(tmp_path: Path, architecture: str, tensors: list[T] | None = None, **values: Any) -> GgufHeader:
    metadata = {"general.architecture": architecture}
    metadata |= {f"{architecture}.{key.replace('__', '.')}": value for key, value in values.items()}
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(metadata, tensors or []))
    return read_header(path)


def cache(tmp_path: Path, architecture: str, tensors: list[T] | None = None, **values: Any) -> KvCache:
    found = kv_cache(header(tmp_path, architecture, tensors, **values))
    assert isinstance(found, KvCache), found
    return found


LLAMA_8B = {
    "block_count": 32,
    "embedding_length": 4096,
    "attention__head_count": 32,
    "attention__head_count_kv": 8,
}


def test_grouped_heads_as_in_llama_3_1_8b(tmp_path: Path) -> None:
    found = cache(tmp_path, "llama", **LLAMA_8B)
    assert found.kind == "GQA"
    assert found.bytes_at(8192) == 1024 * 1024**2
    assert found.bytes_at(8192, "q8_0", "q8_0") == 544 * 1024**2
    assert found.bytes_at(8192, "q4_0", "q4_0") == 288 * 1024**2
    assert found.bytes_per_token() == found.bytes_per_token_beyond() == 131072
    assert found.bytes_at(8000) == found.bytes_at(8192)


def test_latent_attention_as_in_deepseek_v3(tmp_path: Path) -> None:
    found = cache(
        tmp_path,
        "deepseek2",
        block_count=61,
        embedding_length=7168,
        attention__head_count=128,
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
    )
    assert found.kind == "MLA"
    assert round(found.bytes_at(32768) / 1024**2) == 2196


def test_a_sliding_window_by_the_architectures_own_period(tmp_path: Path) -> None:
    found = cache(tmp_path, "gemma3", **{**LLAMA_8B, "block_count": 12}, attention__sliding_window=1024)
    assert [layer.sliding for layer in found.layers] == [True] * 5 + [False] + [True] * 5 + [False]
    assert found.bytes_per_token_beyond() * 6 == found.bytes_per_token()
    per_layer = found.bytes_per_token() // 12
    assert found.bytes_at(8192) == per_layer * (2 * 8192 + 10 * 1536)
    assert found.bytes_at(8192, swa_full=True) == per_layer * 12 * 8192
    assert found.bytes_at(512) == per_layer * 12 * 512


def test_a_pattern_in_the_file_wins_over_the_period(tmp_path: Path) -> None:
    pattern = Array(7, [True, False, False, True])
    values = {**LLAMA_8B, "block_count": 4}
    found = cache(
        tmp_path, "gpt-oss", **values, attention__sliding_window=128, attention__sliding_window_pattern=pattern
    )
    assert [layer.sliding for layer in found.layers] == [True, False, False, True]


def test_a_period_whose_first_layer_sees_everything(tmp_path: Path) -> None:
    found = cache(tmp_path, "smallthinker", **{**LLAMA_8B, "block_count": 8}, attention__sliding_window=64)
    assert [layer.sliding for layer in found.layers] == [False, True, True, True] * 2


def test_a_window_that_llama_cpp_ignores(tmp_path: Path) -> None:
    assert cache(tmp_path, "phi3", **LLAMA_8B, attention__sliding_window=2048).sliding_layers == 0
    assert cache(tmp_path, "qwen2", **LLAMA_8B, attention__sliding_window=2048).sliding_layers == 0


def test_layers_that_use_the_cache_of_others_keep_nothing(tmp_path: Path) -> None:
    assert len(cache(tmp_path, "gemma4", **LLAMA_8B, attention__shared_kv_layers=12).layers) == 20
    assert len(cache(tmp_path, "gemma3n", **LLAMA_8B).layers) == 20


def test_prediction_layers_keep_nothing(tmp_path: Path) -> None:
    assert len(cache(tmp_path, "glm4moe", **LLAMA_8B, nextn_predict_layers=1).layers) == 31


def test_head_counts_may_differ_by_layer(tmp_path: Path) -> None:
    values = {**LLAMA_8B, "block_count": 4, "attention__head_count_kv": Array(4, [8, 0, 4, 0])}
    found = cache(tmp_path, "jamba", **values)
    assert [layer.k for layer in found.layers] == [1024, 512]


def test_recurrent_layers_are_told_from_their_tensors(tmp_path: Path) -> None:
    tensors = [
        T("blk.0.ssm_conv1d.weight", 0, (4,), 16),
        T("blk.0.attn_qkv.weight", 0, (4,), 16),
        T("blk.1.attn_k.weight", 0, (4,), 16),
        T("blk.2.ssm_out.weight", 0, (4,), 16),
        T("blk.2.attn_k.weight", 0, (4,), 16),
    ]
    found = cache(tmp_path, "qwen3next", tensors, **{**LLAMA_8B, "block_count": 3})
    assert (len(found.layers), found.recurrent_layers) == (2, 2)


@pytest.mark.parametrize("architecture", ["deepseek4", "glm-dsa"])
def test_caches_of_their_own_kind_are_not_guessed(tmp_path: Path, architecture: str) -> None:
    assert "only llama.cpp can tell" in str(kv_cache(header(tmp_path, architecture, **LLAMA_8B)))


def test_a_header_without_the_figures_says_so(tmp_path: Path) -> None:
    assert "how many layers" in str(kv_cache(header(tmp_path, "llama")))
    assert "attention heads" in str(kv_cache(header(tmp_path, "llama", block_count=2)))
    absurd = {**LLAMA_8B, "block_count": 1 << 40}
    assert "how many layers" in str(kv_cache(header(tmp_path, "llama", **absurd)))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "block_count",
                "embedding_length",
                "attention.head_count",
                "attention.head_count_kv",
                "attention.key_length",
                "attention.value_length_mla",
                "attention.sliding_window",
                "attention.sliding_window_pattern",
                "attention.shared_kv_layers",
                "nextn_predict_layers",
            ]
        ),
        st.integers(-(2**62), 2**62)
        | st.integers(0, 40)
        | st.floats()
        | st.text(max_size=3)
        | st.lists(st.integers(0, 2**31), max_size=5).map(lambda entries: Array(4, entries)),
    ),
    st.sampled_from(["llama", "gemma3", "gemma3n", "lfm2", "smallthinker", "llama4"]),
)
def test_any_figures_give_a_cache_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], architecture: str
) -> None:
    keys = {key.replace(".", "__"): value for key, value in values.items()}
    found = kv_cache(header(tmp_path_factory.getbasetemp(), architecture, **keys))
    if isinstance(found, KvCache):
        assert 0 <= found.bytes_per_token_beyond() <= found.bytes_per_token()
    else:
        assert found


ASK_LLAMA_CPP = """
import sys
from llama_cpp import llama_cpp as ll

ll.llama_backend_init()
model_params = ll.llama_model_default_params()
model = ll.llama_model_load_from_file(sys.argv[1].encode(), model_params)
params = ll.llama_context_default_params()
params.n_ctx, params.n_ubatch, params.swa_full = int(sys.argv[2]), 128, False
params.type_k = params.type_v = int(sys.argv[3])
params.flash_attn_type = 1
context = ll.llama_init_from_model(model, params)
assert context
"""


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "lfm2"])
@pytest.mark.parametrize(("type_number", "type_name"), [(1, "f16"), (8, "q8_0")])
def test_llama_cpp_sets_aside_what_was_said(architecture: Architecture, type_number: int, type_name: str) -> None:
    n_ctx = 3000
    model = make_model(architecture=architecture)
    command = [sys.executable, "-c", ASK_LLAMA_CPP, str(model), str(n_ctx), str(type_number)]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    sizes = re.findall(r"llama_kv_cache: size = +([\d.]+) MiB", log)
    found = kv_cache(read_header(model))
    assert isinstance(found, KvCache)
    assert sizes
    expected = found.bytes_at(n_ctx, type_name, type_name, n_ubatch=128) / 1024**2
    assert sum(map(float, sizes)) == pytest.approx(expected, abs=0.011)

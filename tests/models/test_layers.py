from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.gguf_bytes import T, gguf

from pagewise.models.gguf import read_header
from pagewise.models.layers import layer_of, layer_ranges


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("token_embd.weight", "input"),
        ("rope_freqs.weight", "input"),
        ("blk.0.attn_q.weight", "0"),
        ("blk.117.ffn_down_exps.weight", "117"),
        ("enc.blk.3.attn_q.weight", "3"),
        ("output.weight", "output"),
        ("output_norm.weight", "output"),
        ("blk.x.weight", "input"),
        ("blk.99999999999999999999.weight", "input"),
    ],
)
def test_a_tensors_name_says_its_layer(tensor: str, layer: str) -> None:
    assert layer_of(tensor) == layer


def test_layers_come_by_number_between_input_and_output(tmp_path: Path) -> None:
    tensors = [
        T("output.weight", 0, (8,), 32),
        T("blk.10.a.weight", 0, (2048,), 8192),
        T("blk.2.a.weight", 0, (8,), 32),
        T("blk.10.b.weight", 0, (8,), 32),
        T("token_embd.weight", 0, (8,), 32),
    ]
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf({}, tensors))
    header = read_header(path)
    layers = layer_ranges(header)
    assert [layer.name for layer in layers] == ["input", "2", "10", "output"]
    assert [layer.bytes for layer in layers] == [32, 32, 8224, 32]
    start = header.tensors[1].start
    assert layers[2].ranges == ((start, start + 8192 + 32 + 32),)


def test_far_parts_of_a_layer_stay_apart(tmp_path: Path) -> None:
    tensors = [T("blk.0.a", 0, (8,), 32), T("blk.1.a", 0, (4096,), 16384), T("blk.0.b", 0, (8,), 32)]
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf({}, tensors))
    first, second = layer_ranges(read_header(path))
    assert len(first.ranges) == 2
    assert len(second.ranges) == 1
    assert first.ranges[0][1] <= second.ranges[0][0] < second.ranges[0][1] <= first.ranges[1][0]

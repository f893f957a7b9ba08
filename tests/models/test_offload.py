"""Layers and tensors counted out to devices."""

from __future__ import annotations

import re

from pagewise.models.gguf import Tensor
from pagewise.models.offload import RAM, layer_bytes, layer_homes, weights_by_home
from pagewise.models.quant import TENSOR_TYPES


def tensor(name: str, size: int) -> Tensor:
    return Tensor(name, TENSOR_TYPES[0], (size // 4,), 0, size)


MODEL = [
    tensor("token_embd.weight", 1000),
    tensor("blk.0.attn_q.weight", 40),
    tensor("blk.0.ffn_up_exps.weight", 400),
    tensor("blk.1.attn_q.weight", 40),
    tensor("blk.1.ffn_up_exps.weight", 400),
    tensor("output_norm.weight", 8),
    tensor("output.weight", 1000),
]


def test_the_last_layers_go_first_and_the_output_is_one() -> None:
    assert layer_homes(4, 0, [1.0]) == (RAM,) * 5
    assert layer_homes(4, 1, [1.0]) == (RAM, RAM, RAM, RAM, 0)
    assert layer_homes(4, 3, [1.0]) == (RAM, RAM, 0, 0, 0)
    assert layer_homes(4, 99, [1.0]) == (0,) * 5
    assert layer_homes(4, 99, []) == (RAM,) * 5


def test_shares_are_dealt_in_runs() -> None:
    assert layer_homes(7, 8, [1.0, 1.0]) == (0, 0, 0, 0, 1, 1, 1, 1)
    assert layer_homes(7, 4, [3.0, 1.0]) == (RAM, RAM, RAM, RAM, 0, 0, 0, 1)
    assert layer_homes(7, 8, [0.0, 1.0]) == (1,) * 8
    for counts in ((33, 10), (1, 2), (7, 0), (5, 9, 3)):
        homes = layer_homes(sum(counts) - 1, sum(counts), list(map(float, counts)))
        assert tuple(homes.count(index) for index in range(len(counts))) == counts


def test_weights_by_home() -> None:
    homes = layer_homes(2, 2, [1.0])
    assert weights_by_home(MODEL, 2, homes) == {RAM: 1440, 0: 1448}
    experts = [(re.compile("_exps"), RAM), (re.compile("blk.1"), RAM)]
    assert weights_by_home(MODEL, 2, homes, experts) == {RAM: 1880, 0: 1008}


def test_tied_embeddings_are_there_twice() -> None:
    tied = MODEL[:-1]
    assert weights_by_home(tied, 2, layer_homes(2, 1, [1.0])) == {RAM: 1880, 0: 1008}
    assert weights_by_home(tied, 2, layer_homes(2, 0, [1.0])) == {RAM: 1888}
    assert [layer.bytes for layer in layer_bytes(tied, 2)] == [440, 440, 1008]


def test_layer_bytes() -> None:
    assert [tuple(layer) for layer in layer_bytes(MODEL, 2)] == [(0, 440, 400), (1, 440, 400), (2, 1008, 0)]

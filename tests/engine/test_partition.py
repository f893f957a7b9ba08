"""The same prompt in other pieces: the last bits change, the answer does not."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp
from tests.engine.harness import profile
from tests.synthetic import make_model

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.decode import Sequence
from pagewise.engine.llamacpp.model import Model, load_model, open_model_file
from pagewise.engine.llamacpp.pieces import Grain, PieceSize
from pagewise.engine.llamacpp.placement import _from_log, placement

N_TOKENS = 200


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    library.start()


@contextmanager
def loaded(**shape: Any) -> Iterator[Model]:
    path = make_model(**shape)
    model = load_model(open_model_file(path), profile(path), progress=lambda _share: True, cancelled=lambda: False)
    try:
        yield model
    finally:
        model.free()


def logits(model: Model, prompt: list[int], n_ubatch: int, split: int = 0) -> Any:
    """Log-probabilities after ``prompt``; with ``split`` its first tokens are evaluated, kept and reused."""
    flag = ctypes.create_string_buffer(2)
    context = Context(model, profile("", n_ubatch=n_ubatch), flag)
    try:
        sequence = Sequence(context, PieceSize(context.n_ubatch, Grain(0.01, 1), 1))
        if split:
            sequence.prefill(prompt[:split], lambda _done: None)
            assert sequence.reuse(prompt).tokens == split
        sequence.prefill(prompt, lambda _done: None)
        assert sequence.ids == prompt and sequence.used == len(prompt)
        row = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(context.pointer, -1), (model.vocabulary.n_tokens,)
        ).astype(np.float64)
        return row - np.log(np.exp(row - row.max()).sum()) - row.max()
    finally:
        context.free()


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
@pytest.mark.parametrize(("n_ubatch", "split"), [(512, 120), (64, 0), (64, 77), (1, 0)])
def test_other_pieces_give_nearly_the_same(architecture: str, n_ubatch: int, split: int) -> None:
    prompt = [int(id) for id in np.random.default_rng(3).integers(3, 1024, N_TOKENS)]
    with loaded(architecture=architecture) as model:
        whole = logits(model, prompt, 512)
        pieces = logits(model, prompt, n_ubatch, split)
    divergence = float((np.exp(whole) * (whole - pieces)).sum())
    assert divergence < 1e-3
    first, second = np.sort(whole)[-1:-3:-1]
    assert whole.argmax() == pieces.argmax() or first - second < 0.05


def test_equal_pieces_give_equal_bits() -> None:
    prompt = [int(id) for id in np.random.default_rng(3).integers(3, 1024, N_TOKENS)]
    with loaded() as model:
        assert np.array_equal(logits(model, prompt, 64), logits(model, prompt, 64))


def test_placement_without_ggmls_word_agrees_with_it() -> None:
    """What is read from the load log, for builds that do not export the symbols."""
    with loaded() as model:
        asked = placement(model, [])
        lines = [f"load_tensors:   {buffer.buffer} model buffer size = 1.65 MiB" for buffer in asked.buffers]
        told = _from_log(model, lines)
    assert told.note and told.layers == asked.layers

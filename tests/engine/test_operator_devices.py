"""Where a node was computed and whose weights it read, on graphs that span a GPU: ggml's answers are recorded ones."""

from __future__ import annotations

import ctypes

import pytest

from pagewise.engine.llamacpp import operators
from pagewise.engine.llamacpp.operators import OperatorProbe
from pagewise.engine.llamacpp.tensor import Tensor

ON_CUDA, PINNED, ON_CPU = 0xA0, 0xB0, 0xC0
"""Buffers: of the device, of the host for the device's transfers, and plain memory."""
DEVICES = {ON_CUDA: b"CUDA0", PINNED: b"CUDA0", ON_CPU: b"CPU"}


@pytest.fixture(autouse=True)
def ggml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.library, "buffer_is_host", lambda buffer: buffer != ON_CUDA)
    monkeypatch.setattr(operators.library, "buffer_type_of", lambda buffer: buffer)
    monkeypatch.setattr(operators.library, "buffer_type_device", lambda kind: kind)
    monkeypatch.setattr(operators.library, "device_name", DEVICES.__getitem__)


def tensor(name: str = "", buffer: int = 0, view: Tensor | None = None) -> Tensor:
    return Tensor(name=name.encode(), buffer=buffer, view_src=ctypes.addressof(view) if view is not None else None)


@pytest.mark.parametrize(("buffer", "device"), [(ON_CUDA, "CUDA0"), (PINNED, "CPU"), (ON_CPU, "CPU"), (0, "CPU")])
def test_a_node_is_on_the_device_whose_memory_holds_its_result(buffer: int, device: str) -> None:
    assert operators._device(tensor("ffn_out-3", buffer)) == device


def test_a_view_is_where_what_it_views_is() -> None:
    cache = tensor("cache_k_l3", ON_CUDA)
    assert operators._device(tensor("cache_k_l3 (view)", 0, cache)) == "CUDA0"


def test_weights_are_known_by_the_copy_that_was_made_for_a_device() -> None:
    """op_offload and splits copy weights to the device that computes with them, under a name of ggml's own."""
    probe = OperatorProbe.__new__(OperatorProbe)
    probe._weights = {"blk.3.ffn_up.weight"}
    copy = tensor("CUDA0#blk.3.ffn_up.weight#0", ON_CUDA)
    assert probe._weights_of(copy) == "blk.3.ffn_up.weight"
    assert probe._weights_of(tensor("view", 0, copy)) == "blk.3.ffn_up.weight"
    assert probe._weights_of(tensor("CUDA0#l_out-2#0", ON_CUDA)) == ""

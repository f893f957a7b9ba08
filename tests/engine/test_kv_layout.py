"""The V cache of a state turned over: there and back, and nothing touched that is not of the known form."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagewise.engine.llamacpp.kv_layout import can_flip, flip


def cache(cells: int, layers: int, width: int, *, element: int = 2, in_columns: bool = False) -> bytes:
    """As llama.cpp writes it; values are counted up, so that a place tells where it came from."""
    parts = [struct.pack("<II", 1, cells)]
    parts += [struct.pack("<iIi", position, 1, 0) for position in range(cells)]
    parts.append(struct.pack("<II", in_columns, layers))
    row = width * element
    values = np.arange(cells * width, dtype="<u2" if element == 2 else "<u4")
    for _ in range(layers):
        parts += [struct.pack("<iQ", 1, row), bytes(cells * row)]
    for _ in range(layers):
        kind = 1 if element == 2 else 0
        head = struct.pack("<iII", kind, element, width) if in_columns else struct.pack("<iQ", kind, row)
        laid = values.reshape(cells, width).T if in_columns else values
        parts += [head, laid.tobytes()]
    return b"".join(parts)


def state(*caches: bytes) -> bytearray:
    return bytearray(b"magic+v1" + b"".join(caches))


@given(st.integers(1, 9), st.integers(0, 3), st.integers(1, 8), st.sampled_from([2, 4]))
def test_rows_become_columns_and_columns_rows(cells: int, layers: int, width: int, element: int) -> None:
    rows = state(cache(cells, layers, width, element=element), cache(2, 1, 4))
    columns = state(cache(cells, layers, width, element=element, in_columns=True), cache(2, 1, 4, in_columns=True))
    turned = bytearray(rows)
    assert can_flip(turned) and flip(turned)
    assert turned == columns
    assert flip(turned)
    assert turned == rows


@given(st.binary(max_size=400))
def test_what_is_no_state_is_left_alone(content: bytes) -> None:
    turned = bytearray(content)
    assert flip(turned) == can_flip(content)
    assert turned == content or can_flip(content)


def test_what_does_not_come_out_even_is_left_alone() -> None:
    whole = state(cache(5, 2, 4))
    for other in (whole[:-1], whole + b"x", state(cache(5, 2, 4), b"recurrent parts")):
        turned = bytearray(other)
        assert not flip(turned) and turned == other

"""The V cache in a copy of a sequence's state: with flash attention a row for each cell, without it a row for each
element of a cell.

llama.cpp refuses a state whose V lies otherwise than its context's, although the values are the same. What is known
here of its format (llama_kv_cache::state_write) is held against the whole state: one that does not come out even to the
byte is left alone. Those of hybrid and recurrent models, which have other parts, are such.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

_HEAD = 8
"""Magic number and version of a state."""
_PAIR = struct.Struct("<II")
_CELL = struct.Struct("<iI")
_ROWS = struct.Struct("<iQ")
_COLUMNS = struct.Struct("<iII")
_ELEMENT = {0: 4, 1: 2, 30: 2}
"""Bytes of an element of the ggml types that V may have in both layouts (f32, f16, bf16)."""
_MOST_LAYERS = 4096


class _Cache(NamedTuple):
    """One cache of a state; a model with sliding windows has two. Places in bytes from the state's start."""

    columns_at: int
    """Of the flag that says how V lies."""
    in_columns: bool
    cells: int
    layers: tuple[tuple[int, int, int], ...]
    """Of each layer's V: place of its header, ggml type, elements of a cell."""


def can_flip(state: Any) -> bool:
    """Whether ``flip`` would do it."""
    return bool(_caches(memoryview(state).cast("B")))


def flip(state: Any) -> bool:
    """Turn V over within ``state``, a writable buffer. False, and nothing is touched, where that cannot be done."""
    whole = memoryview(state).cast("B")
    caches = _caches(whole)
    for cache in caches:
        _PAIR.pack_into(whole, cache.columns_at, not cache.in_columns, len(cache.layers))
        for at, type, width in cache.layers:
            element = _ELEMENT[type]
            values = np.frombuffer(whole, f"V{element}", cache.cells * width, at + _ROWS.size)
            shape = (width, cache.cells) if cache.in_columns else (cache.cells, width)
            values[:] = values.reshape(shape).T.copy().reshape(-1)
            if cache.in_columns:
                _ROWS.pack_into(whole, at, type, width * element)
            else:
                _COLUMNS.pack_into(whole, at, type, element, width)
    return bool(caches)


def _caches(state: memoryview) -> list[_Cache]:
    """All of them, or none where the state is not of the known form."""
    caches: list[_Cache] = []
    at = _HEAD
    try:
        while at < len(state):
            found, at = _cache(state, at)
            if found is None:
                return []
            caches.append(found)
    except struct.error:
        return []
    return caches if at == len(state) else []


def _cache(state: memoryview, at: int) -> tuple[_Cache | None, int]:
    """The cache at this place, and where it ends."""
    streams, cells = _PAIR.unpack_from(state, at)
    at += _PAIR.size
    if streams != 1 or cells * _CELL.size > len(state):
        return None, at
    for _ in range(cells):
        _, sequences = _CELL.unpack_from(state, at)
        if sequences != 1:
            return None, at
        at += _CELL.size + 4 * sequences
    columns_at = at
    in_columns, layers = _PAIR.unpack_from(state, at)
    at += _PAIR.size
    if in_columns > 1 or layers > _MOST_LAYERS:
        return None, at
    for _ in range(layers):
        _, row = _ROWS.unpack_from(state, at)
        at += _ROWS.size + row * cells
    values = []
    for _ in range(layers):
        type, row = _ROWS.unpack_from(state, at)
        element = _ELEMENT.get(type)
        if element is None:
            return None, at
        width = _COLUMNS.unpack_from(state, at)[2] if in_columns else row // element
        values.append((at, type, width))
        at += _ROWS.size + width * element * cells
    # Where layers differ in width, llama.cpp pads columns to the widest and not rows.
    if len({width for _, _, width in values}) > 1:
        return None, at
    return _Cache(columns_at, bool(in_columns), cells, tuple(values)), at

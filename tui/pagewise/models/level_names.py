"""Quant levels that llama.cpp can make, by the names people give them."""

from __future__ import annotations

import difflib

from pagewise.failure import Failure
from pagewise.models.gguf import printable
from pagewise.models.quant import FILE_TYPE_BY_NAME

_NOT_MADE = ("NVFP4",)
"""File types that llama.cpp reads and has no recipe for."""
LEVELS = tuple(name for name in FILE_TYPE_BY_NAME if name not in _NOT_MADE)
SHORT_NAMES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32", "MXFP4": "MXFP4_MOE"}
"""The first three as llama.cpp's own quantize tool takes them."""
_SHOWN = 60


class LevelError(Exception):
    """There is no such level; ``failure`` says which ones there are."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what}: {failure.why}")
        self.failure = failure


def level_named(text: str) -> str:
    """The level that ``text`` names, in any case and with ``-`` for ``_``. Raises LevelError with the nearest names."""
    name = text.strip().upper().replace("-", "_")
    name = SHORT_NAMES.get(name, name)
    if name in LEVELS:
        return name
    raise LevelError(_no_such(text[:_SHOWN], name))


def _no_such(text: str, name: str) -> Failure:
    within = [level for level in LEVELS if name and level.startswith(name)]
    near = within or difflib.get_close_matches(name[:_SHOWN], [*LEVELS, *SHORT_NAMES], n=4, cutoff=0.6)
    if within:
        what = f"{printable(text)} may be any of several quant levels"
        why = f"These begin so: {', '.join(within)}."
    else:
        what = f"There is no quant level {printable(text)!r}"
        why = f"llama.cpp makes {', '.join(LEVELS)}."
    return Failure(what, why, f"Did you mean {' or '.join(near)}?" if near else "Choose one of these, such as Q4_K_M.")

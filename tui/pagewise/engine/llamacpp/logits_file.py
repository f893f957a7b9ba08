"""The reference's predictions on disk, in the format of ``llama-perplexity --kl-divergence-base``."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pagewise.engine.llamacpp.perplexity import Codes, Ids, words_per_row

_MAGIC = b"_logits_"
_HEAD = struct.Struct("<8siii")


class Extent(NamedTuple):
    """What was scored: ``chunks`` chunks of ``n_ctx`` tokens, with predictions over ``n_vocab`` tokens."""

    n_ctx: int
    n_vocab: int
    chunks: int

    @property
    def first(self) -> int:
        """The first token of a chunk whose successor is scored: before it there is too little context."""
        return self.n_ctx // 2

    @property
    def rows(self) -> int:
        """Predictions of a chunk that are scored; the last token's is not, for what follows is in the next chunk."""
        return self.n_ctx - 1 - self.first

    @property
    def bytes(self) -> int:
        """Of the file."""
        return _HEAD.size + 4 * self.chunks * self.n_ctx + self.chunks * self.rows * 2 * words_per_row(self.n_vocab)


class LogitsWriter:
    """Writes chunk after chunk; use as a context manager. Raises OSError where the disk is full."""

    def __init__(self, path: Path, extent: Extent, ids: list[int]) -> None:
        """``path`` must be there; ``ids`` are the text's, without a BOS for each chunk."""
        self._file = path.open("r+b")
        self._file.write(_HEAD.pack(_MAGIC, *extent))
        self._file.write(_scored(extent, ids).tobytes())

    def __enter__(self) -> LogitsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, codes: Codes) -> None:
        """The next rows."""
        self._file.write(codes.tobytes())
        self._file.flush()


class LogitsReader:
    """The file mapped: of what it holds only the rows in hand are in memory. Raises OSError."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        self._extent = Extent(*_HEAD.unpack(head)[1:])
        n_tokens = self._extent.chunks * self._extent.n_ctx
        self._tokens = np.fromfile(path, np.dtype("<i4"), n_tokens, offset=_HEAD.size)
        shape = (self._extent.chunks * self._extent.rows, words_per_row(self._extent.n_vocab))
        self._rows = np.memmap(path, np.dtype("<u2"), "r", _HEAD.size + 4 * n_tokens, shape)

    def is_of(self, extent: Extent, ids: list[int]) -> bool:
        """Whether the file is of the same chunks, of the same tokens, and of a vocabulary of the same size."""
        return self._extent == extent and bool((self._tokens == _scored(extent, ids)).all())

    def read(self, start: int, count: int) -> Codes:
        """``count`` rows from row ``start`` on."""
        return np.asarray(self._rows[start : start + count])


def _scored(extent: Extent, ids: list[int]) -> Ids:
    return np.asarray(ids[: extent.chunks * extent.n_ctx], np.dtype("<i4"))

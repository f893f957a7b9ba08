"""Scores of a text, gathered chunk by chunk from a context's logits."""

from __future__ import annotations

import numpy as np

from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.logits_file import Extent, LogitsReader, LogitsWriter
from pagewise.engine.llamacpp.perplexity import (
    Distances,
    Doubles,
    Estimate,
    distances,
    encode,
    logits_of,
    mean,
    nll,
    perplexity,
    ratio,
    rows_of,
)
from pagewise.jobs.compare import Divergence

_BLOCK = 1 << 21
"""Logits that are worked on at a time, so that what is made of them stays in the processor's caches."""


class Scores:
    """Of all tokens that count so far."""

    def __init__(
        self, extent: Extent, ids: list[int], writer: LogitsWriter | None, reader: LogitsReader | None
    ) -> None:
        """``writer`` keeps the predictions of a reference, ``reader`` gives them to compare with."""
        self._extent = extent
        self._ids = np.asarray(ids, np.int32)
        self._writer, self._reader = writer, reader
        self._nll: list[Doubles] = []
        self._distances: list[Distances] = []

    def take(self, chunk: int, context: Context) -> None:
        """Score the chunk that ``context`` has just evaluated. Raises OSError."""
        extent = self._extent
        logits = logits_of(context, extent.rows)
        start = chunk * extent.n_ctx + extent.first + 1
        block = max(1, _BLOCK // extent.n_vocab)
        for row in range(0, extent.rows, block):
            rows = rows_of(logits[row : row + block])
            targets = self._ids[start + row : start + row + len(rows.logits)]
            self._nll.append(nll(rows, targets))
            if self._writer is not None:
                self._writer.write(encode(rows))
            if self._reader is not None:
                codes = self._reader.read(chunk * extent.rows + row, len(rows.logits))
                self._distances.append(distances(rows, targets, codes))

    @property
    def perplexity(self) -> Estimate:
        """Of the chunks that were taken, at least one."""
        return perplexity(np.concatenate(self._nll))

    @property
    def divergence(self) -> Divergence | None:
        """From the reference; None without one."""
        if not self._distances:
            return None
        all_of = [np.concatenate(parts) for parts in zip(*self._distances, strict=True)]
        own, reference, kl, same = all_of
        n = len(kl)
        mean_kl, share = mean(kl), float(same.mean())
        relative = ratio(own, reference)
        return Divergence(
            kl=mean_kl.value,
            kl_error=mean_kl.error,
            kl_99=float(np.percentile(kl, 99)),
            kl_max=float(kl.max()),
            same_top=share,
            same_top_error=float(np.sqrt(share * (1 - share) / (n - 1))) if n > 1 else 0.0,
            ppl_ratio=relative.value,
            ppl_ratio_error=relative.error,
        )

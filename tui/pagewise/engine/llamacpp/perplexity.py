"""Perplexity and KL divergence by llama-perplexity's formulas, on rows of logits.

Numbers are float32 where llama.cpp's are, and sums float64. The reference's predictions are kept as that tool keeps
them (``--kl-divergence-base``): of each token 16 bits, linear between the row's least log-probability (at most 16
below the greatest) and the greatest.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp

from pagewise.engine.llamacpp.context import Context

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]
Ids = npt.NDArray[np.int32]

_DEPTH = 16.0
_STEPS = 65535.0
_HEAD = 4
"""16-bit words before the codes of a row: scale and least log-probability, a float32 each."""
_FEW = 10
"""With no more values than this there is no standard error."""


class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float


class Rows(NamedTuple):
    """What several rows of logits say: of each its greatest, and the logarithm of the sum of exp(logit − greatest)."""

    logits: Floats
    greatest: Floats
    log_sum: Doubles


class Distances(NamedTuple):
    """Of each token: its negative log-likelihood and the reference's, the divergence, and whether the top is equal."""

    nll: Doubles
    reference_nll: Doubles
    kl: Doubles
    same_top: npt.NDArray[np.bool_]


def logits_of(context: Context, count: int) -> Floats:
    """A view of the last evaluation's ``count`` rows of logits, valid until the next one."""
    n_vocab = context.model.vocabulary.n_tokens
    pointer = llama_cpp.llama_get_logits(context.pointer)
    address = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(address, shape=(count, n_vocab))


def rows_of(logits: Floats) -> Rows:
    """The rows with what all formulas need of them."""
    greatest = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - greatest[:, None]).sum(axis=1, dtype=np.float64))
    return Rows(logits, greatest, log_sum)


def nll(rows: Rows, targets: Ids) -> Doubles:
    """Negative log-likelihood of each row's target."""
    chosen = rows.logits[np.arange(len(targets)), targets]
    return rows.log_sum - (chosen - rows.greatest).astype(np.float64)


def words_per_row(n_vocab: int) -> int:
    """16-bit words of an encoded row."""
    return 2 * ((n_vocab + 1) // 2) + _HEAD


def encode(rows: Rows) -> Codes:
    """The rows' log-probabilities as 16-bit codes."""
    logits, greatest = rows.logits, rows.greatest
    least = np.maximum(logits.min(axis=1), greatest - np.float32(_DEPTH))
    scale = (greatest - least) / np.float32(_STEPS)
    codes = np.zeros((len(logits), words_per_row(logits.shape[1])), np.uint16)
    head = np.empty((len(logits), 2), np.float32)
    head[:, 0] = scale
    head[:, 1] = least - greatest - rows.log_sum.astype(np.float32)
    codes[:, :_HEAD] = head.view(np.uint16)
    # A row whose logits are all equal has scale 0: its codes are 0 whatever they are divided by.
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    above = np.maximum(logits - least[:, None], np.float32(0))
    codes[:, _HEAD : _HEAD + logits.shape[1]] = np.rint(above * inverse[:, None])
    return codes


def distances(rows: Rows, targets: Ids, codes: Codes) -> Distances:
    """The rows against the reference's ``codes`` for the same tokens."""
    n_vocab = rows.logits.shape[1]
    head = np.ascontiguousarray(codes[:, :_HEAD]).view(np.float32)
    stored = codes[:, _HEAD : _HEAD + n_vocab]
    reference = head[:, :1] * stored.astype(np.float32) + head[:, 1:]
    log_sum = rows.log_sum.astype(np.float32)
    normal = (rows.greatest + log_sum)[:, None]
    weighted = np.exp(reference) * (reference - rows.logits + normal)
    weighted[reference <= -np.float32(_DEPTH)] = 0
    at = np.arange(len(targets))
    return Distances(
        nll=(normal[:, 0] - rows.logits[at, targets]).astype(np.float64),
        reference_nll=-reference[at, targets].astype(np.float64),
        kl=weighted.sum(axis=1, dtype=np.float64),
        same_top=rows.logits.argmax(axis=1) == stored.argmax(axis=1),
    )


def mean(values: npt.NDArray[Any]) -> Estimate:
    """Mean and standard error; the error is 0 where there are too few values, or they are all the same."""
    n = len(values)
    value = float(values.mean(dtype=np.float64))
    variance = float(np.square(values, dtype=np.float64).mean()) - value * value
    return Estimate(value, math.sqrt(variance / (n - 1)) if variance > 0 and n > _FEW else 0.0)


def perplexity(values: Doubles) -> Estimate:
    """exp of the mean negative log-likelihood. Its error by propagation: that of the mean times the perplexity."""
    estimate = mean(values)
    value = math.exp(estimate.value) if estimate.value < _LARGEST_EXPONENT else math.inf
    return Estimate(value, estimate.error * value)


def ratio(values: Doubles, reference: Doubles) -> Estimate:
    """Perplexity ÷ the reference's, with the covariance of the two in its error."""
    own, other = mean(values), mean(reference)
    n = len(values)
    covariance = 0.0
    if n >= _FEW:
        covariance = (float((values * reference).mean()) - own.value * other.value) / (n - 1)
    variance = own.error**2 + other.error**2 - 2 * covariance
    value = math.exp(min(own.value - other.value, _LARGEST_EXPONENT))
    return Estimate(value, value * math.sqrt(max(0.0, variance)))


_LARGEST_EXPONENT = 700.0

"""How far a quant type moves the weights: a property of the type, by which levels can be compared before one is made.

Measured once with ggml's own quantizer on 128 × 4096 normally distributed weights, without an importance matrix (with
a uniform one where the type needs one). Real matrices come close to it; outliers make theirs somewhat larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

RMS_ERROR: dict[str, float] = {
    "F64": 0.0,
    "F32": 0.0,
    "F16": 0.0002,
    "BF16": 0.0017,
    "Q8_0": 0.0054,
    "Q6_K": 0.0178,
    "Q5_K": 0.0362,
    "Q5_1": 0.0379,
    "Q5_0": 0.0428,
    "Q4_K": 0.0714,
    "IQ4_NL": 0.0762,
    "IQ4_XS": 0.0768,
    "Q4_1": 0.0783,
    "Q4_0": 0.0862,
    "NVFP4": 0.1033,
    "MXFP4": 0.1141,
    "Q3_K": 0.1511,
    "IQ3_S": 0.1660,
    "IQ3_XXS": 0.2133,
    "IQ2_S": 0.2652,
    "Q2_K": 0.2968,
    "IQ2_XS": 0.2996,
    "IQ2_XXS": 0.3435,
    "IQ1_S": 0.4856,
    "IQ1_M": 0.5824,
    "Q1_0": 0.6013,
    "Q2_0": 0.7185,
    "TQ1_0": 0.8092,
    "TQ2_0": 0.8092,
}
"""RMS of (quantized − original), relative to the original's RMS, by tensor type."""
TRAINED_IN = frozenset(("MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0"))
"""Types that models are trained in: as a source they are exact, and on other weights they look bad."""


class Step(NamedTuple):
    """One tensor on its way: ``weights`` of them go from one type to another."""

    weights: int
    source: str
    target: str


def errors(steps: Iterable[Step]) -> tuple[float, float, float]:
    """(of the source, of the result, of the result had it been made from exact weights), over all weights.

    Errors of two roundings are taken as independent: their squares add up.
    """
    total, source, result, direct = 0, 0.0, 0.0, 0.0
    for step in steps:
        before = 0.0 if step.source in TRAINED_IN else RMS_ERROR.get(step.source, 0.0) ** 2
        own = RMS_ERROR.get(step.target, 0.0) ** 2
        total += step.weights
        source += step.weights * before
        result += step.weights * (before if step.source == step.target else before + own)
        direct += step.weights * own
    if not total:
        return 0.0, 0.0, 0.0
    return math.sqrt(source / total), math.sqrt(result / total), math.sqrt(direct / total)

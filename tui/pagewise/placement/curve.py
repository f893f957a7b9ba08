"""The time of a token against the memory that the file can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_POINTS = 24
_BEYOND = 1.1
_LEAST = 0.1


class CurvePoint(NamedTuple):
    """With this much memory for the file a token takes this long."""

    memory_bytes: int
    token_s: float


def token_s(compute_s: float, scanned_bytes: float, missed_bytes: float, bandwidth: float) -> float:
    """Seconds of a token that computes for ``compute_s`` and has to read.

    What it reads of every layer in turn is read while others are computed; an expert that is not there is waited for.
    """
    return max(compute_s, scanned_bytes / bandwidth) + missed_bytes / bandwidth


def curve(
    compute_s: float,
    bandwidth: float,
    dense_bytes: int,
    expert_bytes: int,
    window: int,
    missed_at: Callable[[int], float | None],
) -> tuple[CurvePoint, ...]:
    """From a tenth of the file to a little more than the file.

    ``missed_at`` gives the bytes of experts that a token misses where so many bytes of them are kept; None: not known,
    and every expert is as likely as any other.
    """
    total = dense_bytes + expert_bytes
    points = []
    for number in range(_POINTS):
        memory = int(total * (_LEAST + (_BEYOND - _LEAST) * number / (_POINTS - 1)))
        if memory >= total:
            points.append(CurvePoint(memory, compute_s))
            continue
        scanned = max(0, dense_bytes + (window if memory < dense_bytes else 0) - memory)
        missed = missed_at(max(0, memory - dense_bytes)) if expert_bytes else 0.0
        points.append(CurvePoint(memory, token_s(compute_s, scanned, missed or 0.0, bandwidth)))
    return tuple(points)

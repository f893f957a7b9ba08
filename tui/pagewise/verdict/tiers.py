"""A token's time and bytes, told apart by the memory that its layers live in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pagewise.readings import LayerClock, LayerPlacement
from pagewise.verdict.evidence import Tier

INPUT = "input"


class Peak(NamedTuple):
    """The best a memory can do in bytes per second, or why that is not known."""

    bytes_per_s: float | None
    why: str = ""


def tiers(
    placement: Sequence[LayerPlacement],
    clocks: Sequence[LayerClock],
    tpot_ms: float,
    weight_bytes: float,
    kv_bytes: float,
    peaks: Mapping[str, Peak],
) -> tuple[tuple[Tier, ...], str]:
    """The tiers of a token, and why there are none if there are none.

    ``weight_bytes`` and ``kv_bytes`` are what one token reads over all tiers: weights are shared out by the bytes of
    the layers, KV by their number. The time of a token is shared out as the probed tokens spent theirs, since probing
    itself slows each of them down; where all layers live in one memory it needs no probe. ``peaks`` by kind of tier.
    """
    layers = [layer for layer in placement if layer.name != INPUT]
    groups: dict[Literal["RAM", "VRAM"], list[LayerPlacement]] = {}
    for layer in layers:
        if layer.where == "unknown":
            return (), "Where the layers live is not known for this llama.cpp build."
        groups.setdefault("VRAM" if layer.where == "device" else "RAM", []).append(layer)
    if not groups:
        return (), "Where the layers live is not known."
    shares = _shares(clocks)
    if len(groups) > 1 and not shares:
        return (), "No token of this reply was probed, so the time cannot be told apart by device."
    total = sum(_bytes(layer) for layer in layers)
    found = []
    for kind, members in groups.items():
        peak = peaks.get(kind, Peak(None, "it was not measured"))
        share = 1.0 if len(groups) == 1 else sum(shares.get(layer.name, 0.0) for layer in members)
        of_weights = sum(_bytes(layer) for layer in members) / total if total else 0.0
        found.append(
            Tier(
                kind=kind,
                where="all layers" if len(groups) == 1 else _names(members),
                ms=tpot_ms * share,
                bytes=weight_bytes * of_weights + kv_bytes * len(members) / len(layers),
                kv_bytes=kv_bytes * len(members) / len(layers),
                n_layers=len(members),
                resident_bytes=sum(_bytes(layer) for layer in members),
                peak_bytes_per_s=peak.bytes_per_s,
                why_no_peak=peak.why,
            )
        )
    return tuple(found), ""


def _shares(clocks: Sequence[LayerClock]) -> dict[str, float]:
    """Each layer's share of a probed token, over all of them."""
    total = sum(clock.total_ms for clock in clocks)
    if total <= 0:
        return {}
    shares: dict[str, float] = {}
    for clock in clocks:
        for name, ms in zip(clock.names, clock.ms, strict=False):
            shares[name] = shares.get(name, 0.0) + ms / total
    return shares


def _bytes(layer: LayerPlacement) -> int:
    return layer.mapped_bytes + layer.copied_bytes + layer.device_bytes


def _names(members: Sequence[LayerPlacement]) -> str:
    numbers = [int(layer.name) for layer in members if layer.name.isdigit()]
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in runs)
    rest = [layer.name for layer in members if not layer.name.isdigit()]
    if not shown:
        return f"the {' and the '.join(rest)}"
    return f"{'layer' if len(numbers) == 1 else 'layers'} {shown}" + (" and the output" if rest else "")

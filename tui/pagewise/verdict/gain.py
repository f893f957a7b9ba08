"""What a change is predicted to bring: how many times as fast tokens would come, from the figures of the turn."""

from __future__ import annotations

from typing import NamedTuple

from pagewise.verdict.evidence import Evidence, Tier

BITS_PER_WEIGHT = {
    "F32": 32.0,
    "F16": 16.0,
    "BF16": 16.0,
    "Q8_0": 8.50,
    "Q6_K": 6.56,
    "Q5_1": 6.0,
    "Q5_K_M": 5.70,
    "Q5_0": 5.59,
    "Q5_K_S": 5.57,
    "Q4_1": 5.13,
    "Q4_K_M": 4.89,
    "IQ4_NL": 4.68,
    "Q4_K_S": 4.67,
    "Q4_0": 4.66,
    "IQ4_XS": 4.46,
    "Q3_K_M": 4.00,
}
"""Of whole files, as llama.cpp's quantize lists them for an 8B model: mixtures keep some tensors larger."""
_STEPS = (("Q4_K_M", 5.5), ("Q3_K_M", 4.4))
"""The quant to go to from so many bits on."""
_USABLE_VRAM = 0.9
"""Of what is free: the rest is for buffers and for whatever else uses the screen."""
_REACHED = 0.6
"""Share of a device's peak bandwidth that layers are taken to reach there, where none has shown it yet."""
_LAYER_MS = 0.05
"""A layer takes this long on a GPU at least: a dozen kernels, each of which has to be started."""
_MOST = 20.0


class Smaller(NamedTuple):
    """A smaller quant, and the share of the bytes that is left with it."""

    quant: str
    share: float


class Moved(NamedTuple):
    """Layers that the free VRAM has room for, and how many times as fast tokens come with them there."""

    layers: int
    times: float


def smaller_quant(quant: str) -> Smaller | None:
    """The next smaller quant that is worth its loss; None where there is none, or the present one is not known."""
    bits = BITS_PER_WEIGHT.get(quant)
    if bits is None:
        return None
    target = next((name for name, least in _STEPS if bits >= least), None)
    return None if target is None else Smaller(target, BITS_PER_WEIGHT[target] / bits)


def with_fewer_bytes(evidence: Evidence, tier: Tier, share: float) -> float | None:
    """Times as fast with ``share`` of the tier's weight bytes, read at the same bandwidth; the KV cache stays."""
    if not evidence.tpot_ms or tier.bytes <= 0:
        return None
    weights = max(0.0, tier.bytes - tier.kv_bytes)
    return _times(evidence.tpot_ms, tier.ms * weights * (1.0 - share) / tier.bytes)


def with_layers_on_device(evidence: Evidence, ram: Tier) -> Moved | None:
    """As many layers from RAM to the GPU as it has room for."""
    free, tpot = evidence.vram_free_bytes, evidence.tpot_ms
    if not free or not tpot or not ram.n_layers or ram.resident_bytes <= 0:
        return None
    layers = min(ram.n_layers, int(_USABLE_VRAM * free / (ram.resident_bytes / ram.n_layers)))
    bandwidth = next((tier.bytes_per_s for tier in evidence.tiers if tier.kind == "VRAM"), 0.0)
    if not bandwidth and evidence.vram_peak_bytes_s:
        bandwidth = _REACHED * evidence.vram_peak_bytes_s
    if layers < 1 or bandwidth <= 0:
        return None
    there_ms = max(1000.0 * ram.bytes / bandwidth, _LAYER_MS * ram.n_layers)
    return Moved(layers, _times(tpot, (ram.ms - there_ms) * layers / ram.n_layers))


def without(evidence: Evidence, share: float) -> float | None:
    """Times as fast if this share of a token's time were gone."""
    return _times(1.0, share) if evidence.tpot_ms else None


def said(times: float | None, at_most: bool = False) -> str:
    """The prediction as a sentence; nothing where there is none, or it is not worth a change."""
    if times is None or times < 1.05:
        return ""
    shown = f"{times:.1f}" if times < 9.95 else f"{times:.0f}"
    return f"{'At most' if at_most else 'About'} {shown} times as fast."


def _times(whole: float, saved: float) -> float:
    left = whole - saved
    return min(_MOST, whole / left) if left > 0 else _MOST

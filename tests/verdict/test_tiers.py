"""How a token's time and bytes are told apart."""

from __future__ import annotations

import pytest

from pagewise.readings import LayerClock, LayerPlacement
from pagewise.verdict.tiers import Peak, tiers

PEAKS = {"RAM": Peak(48e9), "VRAM": Peak(272e9)}


def layer(name: str, where: str, size: int = 100) -> LayerPlacement:
    sizes = {"mapped": (size, 0, 0), "copied": (0, size, 0), "device": (0, 0, size), "unknown": (0, 0, 0)}[where]
    return LayerPlacement(name, "CUDA0" if where == "device" else "CPU", where, *sizes)  # type: ignore[arg-type]


def clock(**ms: float) -> LayerClock:
    names = tuple(name.lstrip("_") for name in ms)
    return LayerClock(2, sum(ms.values()), names, tuple(ms.values()), ("CPU",) * len(ms), (), (), 0.0)


SPLIT = [
    layer("input", "mapped", 500),
    layer("0", "mapped"),
    layer("1", "copied"),
    layer("2", "device"),
    layer("3", "device"),
    layer("output", "device", 200),
]


def test_one_memory_needs_no_probe() -> None:
    (only,), why = tiers(
        [layer("input", "mapped"), layer("0", "mapped"), layer("1", "copied")], [], 40.0, 1e9, 1e6, PEAKS
    )
    assert why == ""
    assert (only.kind, only.where, only.ms, only.peak_bytes_per_s) == ("RAM", "all layers", 40.0, 48e9)
    assert only.bytes == pytest.approx(1e9 + 1e6)


def test_two_memories_share_time_as_probed_and_bytes_as_placed() -> None:
    clocks = [clock(input=1, _0=30, _1=30, _2=8, _3=8, output=3), clock(input=1, _0=30, _1=30, _2=8, _3=8, output=3)]
    found, _ = tiers(SPLIT, clocks, 40.0, 600.0, 5.0, PEAKS)
    ram, vram = found
    assert (ram.where, vram.where) == ("layers 0–1", "layers 2–3 and the output")
    assert ram.ms == pytest.approx(40.0 * 60 / 80)
    assert vram.ms == pytest.approx(40.0 * 19 / 80)
    assert ram.bytes == pytest.approx(600.0 * 200 / 600 + 5.0 * 2 / 5)
    assert vram.bytes == pytest.approx(600.0 * 400 / 600 + 5.0 * 3 / 5)
    assert (vram.kv_bytes, vram.n_layers, vram.resident_bytes) == (pytest.approx(3.0), 3, 400)


def test_two_memories_without_a_probe_cannot_be_told_apart() -> None:
    found, why = tiers(SPLIT, [], 40.0, 600.0, 5.0, PEAKS)
    assert found == () and "probed" in why


@pytest.mark.parametrize("placement", [[], [layer("input", "mapped")], [layer("0", "unknown")]])
def test_unknown_places(placement: list[LayerPlacement]) -> None:
    found, why = tiers(placement, [], 40.0, 600.0, 5.0, PEAKS)
    assert found == () and why


def test_a_peak_that_is_not_known_says_why() -> None:
    (only,), _ = tiers([layer("0", "mapped")], [], 40.0, 600.0, 0.0, {"RAM": Peak(None, "the machine was busy")})
    assert only.use is None and only.why_no_peak == "the machine was busy"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["0", "1", "2", "5", "7", "8"], "layers 0–2, 5, 7–8"),
        (["3"], "layer 3"),
        (["output"], "the output"),
        (["10", "9", "output"], "layers 9–10 and the output"),
    ],
)
def test_names_of_layers(names: list[str], shown: str) -> None:
    placement = [layer(name, "mapped") for name in names] + [layer("99", "device")]
    found, _ = tiers(placement, [clock(**{f"_{name}": 1.0 for name in [*names, "99"]})], 10.0, 1.0, 0.0, PEAKS)
    assert found[0].where == shown

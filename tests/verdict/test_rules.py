"""The rules, each with the figures of a machine that it is about."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pagewise.readings import Streaming
from pagewise.verdict.evidence import Evidence, Tier
from pagewise.verdict.rules import ENOUGH, RULES, judge

GB = 1e9
WORDS = {
    "RAM bandwidth",
    "VRAM bandwidth",
    "disk",
    "compute / threads",
    "PCIe",
    "sync / launch",
    "host",
    "other tenant",
    "unclear",
}


def tier(kind: str, ms: float, gigabytes: float, peak: float | None, where: str = "all layers") -> Tier:
    return Tier(kind, where, ms, gigabytes * GB, None if peak is None else peak * GB, "" if peak else "not measured")  # type: ignore[arg-type]


RAM_BOUND = Evidence(
    n_output=100,
    tpot_ms=100.0,
    loop_cost_ms=0.2,
    tiers=(tier("RAM", 99.8, 4.0, 48.0),),
    why_no_tiers="",
    page_in_bytes=0.0,
    io_stalled=0.0,
    io_scope="box",
    threads=8,
    physical_cores=8,
    logical_cores=16,
    engine_cores=7.9,
    kernel_cores=0.1,
    other_cores=0.3,
    gpu_busy_pct=None,
    file_bytes=4_100_000_000,
    ram_available_bytes=20_000_000_000,
)


def changed(**fields: Any) -> Evidence:
    return msgspec.structs.replace(RAM_BOUND, **fields)


def test_ram_bandwidth() -> None:
    verdict = judge(RAM_BOUND)
    assert verdict.bound_by == "RAM bandwidth"
    assert "40.1 GB/s, 84 % of the peak of RAM" in verdict.why
    assert verdict.advice == "Choose a smaller quant: fewer bytes are read from RAM for a token."


def test_ram_bandwidth_with_a_gpu_beside_it() -> None:
    split = (tier("RAM", 79.0, 3.0, 48.0, "layers 0–10"), tier("VRAM", 20.0, 2.0, 272.0, "layers 11–27 and the output"))
    verdict = judge(changed(tiers=split, gpu_busy_pct=20.0))
    assert verdict.bound_by == "RAM bandwidth"
    assert verdict.why.startswith("Layers 0–10 take 79.0 ms of 100 ms a token")
    assert "GPU" in verdict.advice


def test_vram_bandwidth() -> None:
    verdict = judge(changed(tiers=(tier("VRAM", 99.0, 20.0, 272.0),), gpu_busy_pct=99.0, engine_cores=1.0))
    assert verdict.bound_by == "VRAM bandwidth"


GPU_BOUND = msgspec.structs.replace(
    RAM_BOUND,
    tpot_ms=10.0,
    tiers=(tier("VRAM", 9.8, 4.0, 1000.0),),
    gpu_busy_pct=95.0,
    engine_cores=1.0,
)


@pytest.mark.parametrize(
    ("computed", "moved", "word"), [(0.2, 0.62, "VRAM bandwidth"), (9.0, 0.5, "compute / threads")]
)
def test_the_devices_own_monitor_outweighs_what_should_have_been_read(computed: float, moved: float, word: str) -> None:
    tiers = (tier("VRAM", 9.8, computed, 1000.0),)
    verdict = judge(msgspec.structs.replace(GPU_BOUND, tiers=tiers, dram_bytes_s=moved * 1000 * GB))
    assert verdict.bound_by == word
    assert any(f"{100 * moved / 0.98:.0f} % of the peak of its memory" in step for step in verdict.reasoning)


def test_the_monitor_saw_the_whole_token_and_the_layers_took_a_part_of_it() -> None:
    split = (tier("RAM", 4.0, 0.1, 48.0, "layers 0–3"), tier("VRAM", 5.0, 1.0, 1000.0, "layers 4–31"))
    verdict = judge(msgspec.structs.replace(GPU_BOUND, tiers=split, dram_bytes_s=350 * GB))
    assert verdict.bound_by == "VRAM bandwidth" and "700.0 GB/s, 70 % of the peak of its memory" in verdict.why


@pytest.mark.parametrize(("share", "word"), [(ENOUGH + 0.01, "PCIe"), (ENOUGH - 0.01, "VRAM bandwidth")])
def test_pcie_from_the_same_share_of_its_peak_on(share: float, word: str) -> None:
    full = (tier("VRAM", 9.8, 8.0, 1000.0),)
    verdict = judge(msgspec.structs.replace(GPU_BOUND, tiers=full, pcie_bytes_s=share * 32e9, pcie_peak_bytes_s=32e9))
    assert verdict.bound_by == word
    assert any("crossed the link to the GPU" in step for step in verdict.reasoning)
    if word == "PCIe":
        assert "19.5 GB/s crossed the link" in verdict.why and "61 % of what it carries" in verdict.why
        assert verdict.advice.endswith("At most 2.6 times as fast.")


def test_a_link_whose_peak_is_not_known_is_not_judged() -> None:
    verdict = judge(msgspec.structs.replace(GPU_BOUND, pcie_bytes_s=30e9, pcie_peak_bytes_s=None))
    assert verdict.bound_by != "PCIe" and not any("link" in step for step in verdict.reasoning)


def test_a_smaller_quant_is_named_with_what_it_would_bring() -> None:
    verdict = judge(changed(quant="Q8_0"))
    assert "(Q4_K_M)" in verdict.advice and verdict.advice.endswith("About 1.7 times as fast.")
    assert "(Q3_K_M)" in judge(changed(quant="Q4_K_M")).advice
    assert "(" not in judge(changed(quant="IQ2_XS")).advice


def test_a_kv_cache_does_not_shrink_with_the_quant() -> None:
    (ram,) = RAM_BOUND.tiers
    mostly_kv = msgspec.structs.replace(ram, kv_bytes=0.9 * ram.bytes)
    assert "times as fast" not in judge(changed(quant="Q8_0", tiers=(mostly_kv,))).advice


def test_layers_that_fit_the_gpu_are_counted() -> None:
    (ram,) = RAM_BOUND.tiers
    ram = msgspec.structs.replace(ram, n_layers=32, resident_bytes=32 * 100_000_000)
    room = changed(tiers=(ram,), vram_free_bytes=1_000_000_000, vram_peak_bytes_s=1000 * GB, quant="Q8_0")
    verdict = judge(room)
    assert verdict.advice.startswith("Put 9 more layers on the GPU: it has room for them.")
    assert verdict.advice.endswith("About 1.4 times as fast.")
    assert "Choose a smaller quant" in judge(msgspec.structs.replace(room, vram_free_bytes=1000)).advice


def test_a_small_model_gains_little_on_a_gpu() -> None:
    small = Tier("RAM", "all layers", 0.9, 10e6, 12e9, n_layers=9, resident_bytes=10_000_000)
    tiny = changed(tpot_ms=0.92, loop_cost_ms=0.02, tiers=(small,), vram_free_bytes=8 << 30, vram_peak_bytes_s=4e12)
    assert judge(tiny).advice.endswith("About 2.0 times as fast.")


@pytest.mark.parametrize(
    ("evidence", "gain"),
    [
        (
            changed(page_in_bytes=2.6e9, io_stalled=0.75, kernel_cores=0.0, engine_cores=1.0),
            "At most 4.0 times as fast.",
        ),
        (changed(tpot_ms=1.0, loop_cost_ms=0.7, tiers=(tier("RAM", 0.3, 0.001, 48.0),)), "At most 3.3 times as fast."),
        (
            changed(engine_cores=4.0, other_cores=10.5, tiers=(tier("RAM", 99.0, 1.0, 48.0),)),
            "At most 2.0 times as fast.",
        ),
        (
            changed(tiers=(tier("RAM", 99.0, 1.0, 48.0),), threads=4, engine_cores=3.9),
            "At most 2.0 times as fast.",
        ),
        (
            changed(tpot_ms=5.2, tiers=(tier("VRAM", 5.0, 0.1, 1000.0),), gpu_busy_pct=40.0),
            "At most 2.5 times as fast.",
        ),
        (changed(page_in_bytes=2.6e9, io_stalled=1.0), "At most 20 times as fast."),
    ],
)
def test_every_limit_says_what_its_end_would_bring(evidence: Evidence, gain: str) -> None:
    assert judge(evidence).advice.endswith(gain)


@pytest.mark.parametrize("kind", ["RAM", "VRAM"])
def test_no_bandwidth_is_named_below_the_threshold(kind: str) -> None:
    peak = 48.0
    just_below = tier(kind, 100.0, (ENOUGH - 0.01) * peak / 10, peak)
    just_above = tier(kind, 100.0, (ENOUGH + 0.01) * peak / 10, peak)
    assert "bandwidth" not in judge(changed(tiers=(just_below,), engine_cores=4.0)).bound_by
    assert judge(changed(tiers=(just_above,), engine_cores=4.0)).bound_by == f"{kind} bandwidth"


def test_disk_where_it_takes_the_largest_share() -> None:
    verdict = judge(
        changed(page_in_bytes=2.6e9, io_stalled=0.9, tpot_ms=4700.0, engine_cores=2.0, file_bytes=30_000_000_000)
    )
    assert verdict.bound_by == "disk"
    assert "2.6 GB a token came from disk: of its 4,700 ms it waited 4,230 ms for the disk" in verdict.why
    assert "smaller quant" in verdict.advice


def test_the_disks_use_stands_beside_its_peak() -> None:
    found = changed(io_stalled=0.8, engine_cores=0.8, page_in_bytes=0.4e9, disk_peak_bytes_s=2e9)
    verdict = judge(found)
    assert verdict.bound_by == "disk"
    speed = 0.4 / ((0.8 + 0.1 / 8) * 0.1)
    assert f"That is {speed:.1f} GB/s, {100 * speed / 2:.0f} % of the disk's measured peak." in verdict.why
    assert "measured peak" not in judge(msgspec.structs.replace(found, disk_peak_bytes_s=None)).why


def streamed(**changes: object) -> Streaming:
    """A model of 8.5 GB in 6 GB."""
    told = Streaming(
        kept_bytes=5_900_000_000,
        streamed_bytes=2_600_000_000,
        window_bytes=100_000_000,
        room_bytes=6_000_000_000,
        needed_bytes=8_500_000_000,
        layers=(),
        ahead=(),
        bandwidth_bytes_s=2e9,
        token_ms=1300.0,
        waited_ms=1100.0,
        missed_pct=None,
        curve=(),
    )
    return msgspec.structs.replace(told, **changes)


def of_streamed(streaming: Streaming | None) -> Evidence:
    return changed(
        page_in_bytes=2.6e9,
        io_stalled=0.99,
        tpot_ms=1300.0,
        engine_cores=1.5,
        file_bytes=8_500_000_000,
        n_params=8_000_000_000,
        streaming=streaming,
    )


def test_waiting_that_the_engine_tells_itself_is_not_that_of_the_box() -> None:
    assert "on the whole box" not in judge(of_streamed(streamed())).why
    assert "on the whole box" in judge(of_streamed(None)).why


def test_what_was_read_ahead_is_told_apart_from_demand() -> None:
    evidence = msgspec.structs.replace(of_streamed(streamed()), demand_bytes=12e6, read_ahead_bytes=2.5e9)
    assert "(of a probed one 2.5 GB ahead of the layer that needs them, 12.0 MB on demand)" in judge(evidence).why
    evidence = msgspec.structs.replace(of_streamed(None), demand_bytes=2.6e9, read_ahead_bytes=0.0)
    assert "on demand" not in judge(evidence).why


def test_disk_names_the_quant_that_would_fit_and_what_it_would_bring() -> None:
    verdict = judge(of_streamed(streamed()))
    assert verdict.bound_by == "disk"
    assert "it waited 1,100 ms for the disk" in verdict.why
    # 200 ms of computing, by the bytes of 5.70 bits a weight.
    assert verdict.advice.startswith("Q5_K_M would fit: about 7.5 tok/s instead of 0.77.")
    assert "2.5 GB more of memory would hold all of it" in verdict.advice


def test_disk_where_no_quant_would_fit() -> None:
    verdict = judge(of_streamed(streamed(room_bytes=2_000_000_000)))
    assert "No common quant of this model fits" in verdict.advice and "5.0 tok/s" in verdict.advice


def test_reading_that_keeps_nobody_waiting_is_not_the_limit() -> None:
    assert judge(of_streamed(streamed(waited_ms=20.0))).bound_by != "disk"
    assert judge(of_streamed(None)).bound_by == "disk"


def test_disk_where_the_kernel_is_busy_bringing_pages_in() -> None:
    """A fast disk keeps nobody waiting, and costs all the same."""
    busy = changed(page_in_bytes=2.6e9, io_stalled=0.1, engine_cores=7.0, kernel_cores=4.5)
    assert judge(busy).bound_by == "disk"
    idle = changed(page_in_bytes=2.6e9, io_stalled=0.1, engine_cores=7.0, kernel_cores=1.0)
    assert judge(idle).bound_by != "disk"


def test_disk_that_is_not_waited_for_is_not_the_limit() -> None:
    verdict = judge(changed(page_in_bytes=60e6, io_stalled=0.1))
    assert verdict.bound_by == "RAM bandwidth"
    assert any("came from disk" in sentence for sentence in verdict.reasoning)


def test_waiting_for_the_disk_of_somebody_else_is_not_ours() -> None:
    assert judge(changed(page_in_bytes=0.0, io_stalled=0.95)).bound_by != "disk"


def test_host() -> None:
    verdict = judge(changed(tpot_ms=1.0, loop_cost_ms=0.7, tiers=(tier("RAM", 0.3, 0.001, 48.0),)))
    assert verdict.bound_by == "host"


def test_other_tenant() -> None:
    verdict = judge(changed(engine_cores=5.0, other_cores=10.5, tiers=(tier("RAM", 99.0, 1.0, 48.0),)))
    assert verdict.bound_by == "other tenant"
    assert "5.0 cores for its 8 threads" in verdict.why


def test_other_programs_on_cores_that_the_engine_does_not_need() -> None:
    assert judge(changed(engine_cores=7.9, other_cores=6.0)).bound_by == "RAM bandwidth"


@pytest.mark.parametrize(("threads", "advice"), [(8, "cheaper to unpack"), (4, "Set threads = 8")])
def test_compute_and_threads(threads: int, advice: str) -> None:
    slow = tier("RAM", 99.0, 1.0, 48.0)
    verdict = judge(changed(tiers=(slow,), threads=threads, engine_cores=threads * 0.99))
    assert verdict.bound_by == "compute / threads"
    assert advice in verdict.advice


def test_gpu_compute_and_launch() -> None:
    slow = (tier("VRAM", 5.0, 0.1, 1000.0),)
    assert judge(changed(tpot_ms=5.2, tiers=slow, gpu_busy_pct=97.0)).bound_by == "compute / threads"
    assert judge(changed(tpot_ms=5.2, tiers=slow, gpu_busy_pct=40.0)).bound_by == "sync / launch"
    assert judge(changed(tpot_ms=5.2, tiers=slow, gpu_busy_pct=80.0)).bound_by == "unclear"


@pytest.mark.parametrize("n_output", [0, 1, 7])
def test_a_reply_that_is_too_short(n_output: int) -> None:
    verdict = judge(changed(n_output=n_output, tpot_ms=None if n_output < 2 else 100.0))
    assert verdict.bound_by == "unclear" and "too few" in verdict.why


def test_an_unknown_peak_is_said_to_be() -> None:
    verdict = judge(changed(tiers=(tier("RAM", 99.0, 4.0, None),)))
    assert verdict.bound_by == "unclear"
    assert "40.4 GB/s from RAM, but its peak is not known: not measured" in verdict.why


def test_a_time_that_cannot_be_told_apart() -> None:
    verdict = judge(changed(tiers=(), why_no_tiers="No token was probed."))
    assert (verdict.bound_by, verdict.why) == ("unclear", "No token was probed.")


def test_nothing_stands_out() -> None:
    verdict = judge(changed(tiers=(tier("RAM", 99.0, 1.0, 48.0),), engine_cores=4.0, other_cores=0.2))
    assert verdict.bound_by == "unclear"
    assert "stands out" in verdict.why and len(verdict.reasoning) >= 3


def test_nothing_is_known_at_all() -> None:
    nothing = changed(
        tpot_ms=50.0,
        loop_cost_ms=None,
        tiers=(),
        why_no_tiers="Nothing is known.",
        page_in_bytes=None,
        io_stalled=None,
        engine_cores=None,
        kernel_cores=None,
        other_cores=None,
        ram_available_bytes=None,
    )
    assert judge(nothing).bound_by == "unclear"


def test_every_rule_says_one_of_the_words_and_every_verdict_has_advice() -> None:
    assert {rule.bound_by for rule in RULES} <= WORDS
    for evidence in (RAM_BOUND, changed(n_output=1), changed(tiers=()), changed(page_in_bytes=1e9, io_stalled=0.9)):
        verdict = judge(evidence)
        assert verdict.advice and verdict.why and verdict.reasoning

"""What is tried of where weights are, and when it is not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.tuner.test_search import facts

from pagewise.jobs.tune import Aim
from pagewise.settings import Keep, Profile
from pagewise.tuner.candidate import Candidate
from pagewise.tuner.facts import Device
from pagewise.tuner.move import Move
from pagewise.tuner.moves import moves
from pagewise.tuner.standing import Standing

GIB = 1024**3
Q8 = Candidate("/m/a-Q8_0.gguf", None, "Q8_0", "a-Q8_0.gguf:8", 8 * GIB, 8.5)
Q4 = Candidate("/m/a-Q4_K_M.gguf", None, "Q4_K_M", "a-Q4_K_M.gguf:4", 4 * GIB, 4.9)


def proposed(profile: Profile, aim: Aim | None = None, **known: Any) -> list[Move]:
    standing = Standing(profile, 8, 8, 512, True, 60.0, 500.0, 600.0)
    return moves(standing, facts(**known), aim or Aim())


def of(key: str, found: list[Move]) -> list[Any]:
    return [dict(move.changes)[key] for move in found if key in move.keys]


def test_each_other_file_is_tried_the_one_that_reads_least_first() -> None:
    q6 = Candidate("/m/a-Q6_K.gguf", None, "Q6_K", "a-Q6_K.gguf:6", 6 * GIB, 6.6)
    found = proposed(Profile(name="a", model=Q8.model), candidates=(Q8, q6, Q4))
    assert of("model", found) == [Q4.model, q6.model]
    assert found[0].keys == {"model", "quant"}
    assert "50% fewer bytes" in found[0].why


def test_a_larger_file_is_tried_too_since_its_format_may_be_faster() -> None:
    assert of("model", proposed(Profile(name="a", model=Q4.model), candidates=(Q4, Q8))) == [Q8.model]


def test_a_file_is_a_choice_only_where_there_are_others() -> None:
    assert of("model", proposed(Profile(name="a", model=Q8.model))) == []


def test_repacking_is_tried_where_file_and_copy_fit_beside_each_other() -> None:
    plain = Profile(name="a")
    room = 2 * 10**9 + 2 * GIB
    assert of("repack", proposed(plain, repackable_bytes=10**9, available_bytes=room)) == ["on"]
    assert of("repack", proposed(Profile(name="a", repack="on"), repackable_bytes=10**9, available_bytes=room)) == [
        "off"
    ]
    assert of("repack", proposed(plain, repackable_bytes=10**9, available_bytes=2 * 10**9)) == []
    assert of("repack", proposed(plain, repackable_bytes=0)) == []


def test_nothing_that_is_streamed_is_repacked_or_copied() -> None:
    found = proposed(Profile(name="a"), repackable_bytes=10**9, streamed_bytes=1)
    assert of("repack", found) == [] and of("load_mode", found) == []


def test_of_a_streamed_model_the_kept_bytes_are_a_knob() -> None:
    known = {"model_bytes": 10 * GIB, "streamed_bytes": 2 * GIB, "available_bytes": 8 * GIB}
    (less,) = of("placement", proposed(Profile(name="a"), **known))
    assert less == Keep(f"{int(0.9 * 8 * 1024)}MiB")
    assert "auto" in of("placement", proposed(Profile(name="a", placement=Keep("4GiB")), **known))
    assert "auto" in of("placement", proposed(Profile(name="a", placement="off"), **known))
    assert of("placement", proposed(Profile(name="a"))) == []


def test_what_is_to_stay_free_in_ram_is_not_given_away_by_an_automatic_placement() -> None:
    aim = Aim(leave_free_on=(("RAM", GIB),))
    known = {"model_bytes": 10 * GIB, "streamed_bytes": 2 * GIB, "available_bytes": 8 * GIB}
    assert "auto" not in of("placement", proposed(Profile(name="a", placement=Keep("4GiB")), aim, **known))


def test_a_copied_model_may_go_back_to_its_mapping() -> None:
    assert of("load_mode", proposed(Profile(name="a", load_mode="none"))) == ["auto"]
    assert of("load_mode", proposed(Profile(name="a", load_mode="mlock"))) == []


def test_feed_forward_parts_of_as_many_layers_as_are_too_many_go_to_ram() -> None:
    known: dict[str, Any] = {
        "devices": (Device("GPU", 7 * GIB, None),),
        "model_bytes": 10 * GIB,
        "kv_bytes_at_depth": 0,
        "feed_forward_bytes": 8 * GIB,
        "n_layer": 16,
    }
    found = [move for move in proposed(Profile(name="a"), **known) if "tensor_overrides" in move.keys]
    (move,) = found
    (rule,) = dict(move.changes)["tensor_overrides"]
    pattern, _, place = rule.partition("=")
    there = [layer for layer in range(16) if re.search(pattern, f"blk.{layer}.ffn_up.weight")]
    # 10 of model and 1 of margin in 7: 4 GiB, at half a GiB a layer.
    assert there == list(range(8)) and place == "CPU"
    assert dict(move.changes)["n_gpu_layers"] == "all"
    assert not re.search(pattern, "blk.1.attn_q.weight")
    roomy = {**known, "devices": (Device("GPU", 12 * GIB, None),)}
    assert of("tensor_overrides", proposed(Profile(name="a"), **roomy)) == []
    assert of("tensor_overrides", proposed(Profile(name="a"), **{**known, "devices": ()})) == []


def test_experts_of_a_mixture_go_to_ram_for_all_layers_on_the_device() -> None:
    devices = (Device("GPU", 7 * GIB, None),)
    found = proposed(Profile(name="a"), devices=devices, is_mixture=True)
    ((rule,),) = of("tensor_overrides", found)
    assert re.search(rule.partition("=")[0], "blk.3.ffn_up_exps.weight")
    mine = Profile(name="a", tensor_overrides=("ffn_.*_exps=CPU",))
    assert of("tensor_overrides", proposed(mine, devices=devices, is_mixture=True)) == []


def test_kv_types_are_tried_when_a_limit_is_given_and_never_without() -> None:
    plain = Profile(name="a")
    assert of("cache_type_k", proposed(plain, Aim())) == []
    assert set(of("cache_type_k", proposed(plain, Aim(max_kl=0.02)))) == {"q8_0", "q4_0"}
    assert set(of("cache_type_k", proposed(plain, Aim(kv_types=True)))) == {"q8_0", "q4_0"}
    assert Aim(kv_types=True).kv_limit == 0.01 and Aim(max_kl=0.5).kv_limit == 0.5


GPU = (Device("GPU", 7 * GIB, None),)


def standing_on(profile: Profile, **more: Any) -> Standing:
    return Standing(profile, 8, 8, 512, True, 60.0, 500.0, 600.0)._replace(**more)


def counts(standing: Standing, **known: Any) -> dict[Any, str]:
    found = moves(standing, facts(devices=GPU, **known), Aim())
    return {dict(move.changes)["n_gpu_layers"]: move.why for move in found if move.keys == {"n_gpu_layers"}}


@pytest.mark.parametrize("layers", ["all", "fit"])
def test_layers_are_stepped_from_what_was_really_placed(layers: Any) -> None:
    profile = Profile(name="a", n_gpu_layers=layers)
    assert {14, 10} <= set(counts(standing_on(profile, offloaded_layers=12)))
    assert set(counts(standing_on(profile, offloaded_layers=17))) - {"fit"} == {15}
    assert set(counts(standing_on(profile))) - {"fit"} == set()


def test_where_ram_is_the_limit_layers_leave_it() -> None:
    profile = Profile(name="a", n_gpu_layers=8)
    # 0.8 of the peak by the half that lies in RAM.
    known: dict[str, Any] = {"bytes_per_token": 10**9, "kv_bytes_at_depth": 0, "ram_peaks": {8: 0.5e9 / 0.060 / 0.8}}
    why = counts(standing_on(profile, offloaded_layers=8, host_bytes=5 * 10**8), **known)[10]
    assert "RAM bandwidth is saturated (80% of its peak)" in why
    assert "RAM" not in counts(standing_on(profile, offloaded_layers=8, host_bytes=10**8), **known)[10]
    fewer = [
        move for move in moves(standing_on(profile, host_bytes=5 * 10**8), facts(devices=GPU, **known), Aim())
        if move.keys == {"threads"} and dict(move.changes)["threads"] < 8
    ]  # fmt: skip
    assert all("saturated" in move.why for move in fewer) and fewer


def test_of_ram_a_device_takes_its_share_of_the_bytes() -> None:
    known = facts(devices=GPU, ram_peaks={8: 10e9}, bytes_per_token=10**9, kv_bytes_at_depth=10**9)
    assert known.ram_share(100.0, 8) is None
    assert known.ram_share(100.0, 8, 10**9) == pytest.approx(2.0)
    assert known.ram_share(100.0, 8, 25 * 10**7) == pytest.approx(0.5)


def overrides(standing: Standing, **known: Any) -> list[tuple[str, ...]]:
    found = moves(standing, facts(devices=GPU, n_layer=16, **known), Aim())
    return [dict(move.changes)["tensor_overrides"] for move in found if "bound by PCIe (72%" in move.why]


def layers_of(rule: str, name: str) -> list[int]:
    return [layer for layer in range(16) if re.search(rule.partition("=")[0], f"blk.{layer}.{name}")]


def test_where_the_link_is_the_limit_parts_of_layers_stay_in_ram_instead_of_whole_ones() -> None:
    busy = standing_on(Profile(name="a", n_gpu_layers=13), offloaded_layers=13, link_share=0.72)
    ((rule,),) = overrides(busy, model_bytes=8 * GIB, feed_forward_bytes=4 * GIB, kv_bytes_at_depth=0)
    # Four layers are in RAM: of feed-forward parts twice as many hold as much.
    assert layers_of(rule, "ffn_up.weight") == list(range(8))
    ((rule,),) = overrides(busy, is_mixture=True)
    assert layers_of(rule, "ffn_up_exps.weight") == list(range(4)) and not re.search(rule, "blk.0.attn_q.weight")
    assert overrides(busy._replace(link_share=0.3), feed_forward_bytes=4 * GIB) == []
    assert overrides(busy._replace(link_share=None), feed_forward_bytes=4 * GIB) == []


def test_where_the_link_is_the_limit_fewer_of_the_parts_that_are_in_ram_stay_there() -> None:
    everything = next(
        dict(move.changes)["tensor_overrides"] for move in proposed(Profile(name="a"), devices=GPU, is_mixture=True)
        if "tensor_overrides" in move.keys
    )  # fmt: skip
    there: tuple[str, ...] = everything
    for left in (14, 12):
        busy = standing_on(Profile(name="a", tensor_overrides=there), offloaded_layers=17, link_share=0.72)
        (there,) = overrides(busy, is_mixture=True)
        assert layers_of(there[0], "ffn_gate_exps.weight") == list(range(left))
    mine = standing_on(Profile(name="a", tensor_overrides=("ffn_.*_exps=CPU",)), offloaded_layers=17, link_share=0.72)
    assert overrides(mine, is_mixture=True) == [], "a rule of the person's own is not taken apart"


def test_where_the_disk_is_the_limit_a_smaller_file_comes_first_and_says_what_would_be_left_to_read() -> None:
    known: dict[str, Any] = {"model_bytes": 8 * GIB, "available_bytes": 5 * GIB, "streamed_bytes": 3 * GIB}
    first = proposed(Profile(name="a", model=Q8.model), candidates=(Q8, Q4), **known)[0]
    assert dict(first.changes)["model"] == Q4.model
    assert "bound by disk" in first.why and "0.0 would be left" in first.why
    plain = proposed(Profile(name="a", model=Q8.model), candidates=(Q8, Q4))[0]
    assert first.expected > plain.expected


def test_a_micro_batch_that_is_on_no_list_has_neighbours() -> None:
    odd = standing_on(Profile(name="a"))._replace(n_ubatch=200)
    sizes = of("n_ubatch", moves(odd, facts(), Aim(n_prompt=2048)))
    assert sorted(sizes) == [128, 256]


def test_a_batch_is_a_move_of_its_own_where_prefill_counts() -> None:
    long = Aim("long-prompts", n_prompt=8192, n_output=8, depth=0)
    assert sorted(of("n_batch", [move for move in proposed(Profile(name="a"), long) if move.keys == {"n_batch"}])) == [
        1024,
        4096,
    ]
    assert of("n_batch", proposed(Profile(name="a"), Aim(n_prompt=8192))) == []
    short = Aim("long-prompts", n_prompt=512, n_output=8, depth=0)
    assert [move for move in proposed(Profile(name="a"), short) if move.keys == {"n_batch"}] == []

from __future__ import annotations

from pagewise.jobs.tune import Aim
from pagewise.settings import Keep, Profile
from pagewise.tuner.candidate import Candidate
from pagewise.tuner.starts import alternatives, room_for

GIB = 1024**3
Q8 = Candidate("/m/a-Q8_0.gguf", None, "Q8_0", "a-Q8_0.gguf:8", 8 * GIB, 8.5)
Q4 = Candidate("/m/a-Q4_K_M.gguf", None, "Q4_K_M", "a-Q4_K_M.gguf:4", 4 * GIB, 4.9)
START = Profile(name="a", model=Q8.model, load_mode="none", repack="on")


def test_the_context_has_room_for_what_is_measured_and_chance_has_none() -> None:
    shaped = room_for(Profile(name="a", n_ctx=512), Aim(n_prompt=256, n_output=64, depth=1024), ())
    assert shaped.n_ctx == 1536 and shaped.probe_every == 0 and shaped.sampling.temperature == 0
    assert room_for(Profile(name="a", n_ctx=8192), Aim(), ()).n_ctx == 8192


def test_what_is_to_stay_free_on_devices_is_the_margin_of_fit() -> None:
    one, plain = ("CUDA0",), Profile(name="a")
    assert room_for(plain, Aim(leave_free_bytes=2 * GIB), one).fit_margin == "2048MiB"
    assert room_for(plain, Aim(leave_free_bytes=2 * GIB), ()).fit_margin == "2048MiB"
    assert room_for(plain, Aim(leave_free_on=(("cuda0", 3 * GIB),)), one).fit_margin == "3072MiB"
    assert room_for(plain, Aim(leave_free_on=(("ram", 3 * GIB),)), one).fit_margin == "1GiB"
    assert room_for(Profile(name="a", fit_margin="4GiB"), Aim(leave_free_bytes=2 * GIB), one).fit_margin == "4GiB"


def test_what_one_device_is_to_have_left_is_not_taken_from_the_other() -> None:
    aim, both = Aim(leave_free_on=(("CUDA1", 20 * GIB),)), ("CUDA0", "CUDA1")
    start = room_for(Profile(name="a", model=Q8.model), aim, both)
    assert start.fit_margin == "1GiB"
    margins = [each.fit_margin for each in alternatives(start, aim, (), (Q8,), 0) if each.n_gpu_layers == "fit"]
    # By the plan, if the usual margin is not enough there.
    assert margins[0] == "1GiB" and "20480MiB" in margins
    assert "20480MiB" not in [each.fit_margin for each in alternatives(start, aim, ("fit_margin",), (Q8,), 0)]


def test_the_smallest_change_comes_first_and_another_file_last() -> None:
    found = list(alternatives(START, Aim(), (), (Q8, Q4), 0))
    assert (found[0].repack, found[0].load_mode) == ("off", "none")
    assert found[1].n_gpu_layers == "fit" and found[1].repack == "on"
    assert (found[2].load_mode, found[2].repack, found[2].n_gpu_layers) == ("auto", "off", "all")
    assert [each.model for each in found].count(Q4.model) == 2 and found[-1].model == Q4.model
    assert len(set(found)) == len(found)


def test_nothing_that_is_fixed_is_changed() -> None:
    fixed = ("load_mode", "repack", "n_gpu_layers", "model")
    assert list(alternatives(START, Aim(), fixed, (Q8, Q4), 0)) == []


def test_ram_that_is_to_stay_free_is_taken_from_what_is_kept() -> None:
    start = Profile(name="a", model=Q8.model)
    aim = Aim(leave_free_on=(("RAM", 2 * GIB),))
    assert Keep("4096MiB") in [each.placement for each in alternatives(start, aim, (), (Q8,), 6 * GIB)]


def test_a_cache_that_costs_too_much_goes_back_to_f16() -> None:
    start = Profile(name="a", model=Q8.model, cache_type_k="q4_0", cache_type_v="q4_0")
    found = list(alternatives(start, Aim(max_kl=0.001), (), (Q8,), 0))
    assert ("f16", "f16") in [(each.cache_type_k, each.cache_type_v) for each in found]
    assert ("f16", "f16") not in [(x.cache_type_k, x.cache_type_v) for x in alternatives(start, Aim(), (), (Q8,), 0)]

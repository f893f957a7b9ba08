"""Quality as a constraint of the tuner, and quants as candidates, measured on a small real model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.host.talk import Talk
from tests.synthetic import Shape, make_model, make_quantized

from pagewise.client import HostClient
from pagewise.jobs.base import JobFailed
from pagewise.jobs.tune import TUNED, Aim, QuantWish, Trial, TrialEnded, Tune, Tuned
from pagewise.settings import Profile

SHAPE = Shape(n_layer=2, n_embd=256, n_ff=512, n_head=4, n_head_kv=4, n_vocab=512, gain=2.0, n_ctx_train=1024)
KV = ("cache_type_k", "cache_type_v")
FILE = ("model", "quant")


@pytest.fixture
def plain() -> Profile:
    return Profile(name="plain", model=str(make_model(SHAPE)), n_ctx=1024, threads=1, flash_attention="on")


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


def aim(**changes: object) -> Aim:
    return Aim(n_prompt=16, n_output=8, depth=512, **changes)  # type: ignore[arg-type]


def others(*free: str) -> tuple[str, ...]:
    """All keys but these are fixed."""
    return tuple(TUNED - set(free))


async def tuned(talk: Talk, id: int, start: Profile, wanted: Aim, *free: str, **more: object) -> Tuned:
    talk.send(Tune(id, start, wanted, others(*free), fresh=True, **more))  # type: ignore[arg-type]
    return await talk.wait(Tuned, lambda event: event.id == id)


def by_types(done: Tuned) -> dict[tuple[str, str], Trial]:
    return {(each.profile.cache_type_k, each.profile.cache_type_v): each for each in done.trials[1:]}


async def test_kv_types_above_the_limit_are_ruled_out_and_measured_but_once(
    real: Talk, plain: Profile, tmp_path: Path
) -> None:
    none = await tuned(real, 7, plain, aim(max_kl=1e-12), *KV)
    ruled = by_types(none)
    assert {trial.outcome for trial in ruled.values()} == {"ruled out"}
    coarse, fine = ruled["q4_0", "q4_0"], ruled["q8_0", "q8_0"]
    assert coarse.kl is not None and fine.kl is not None and coarse.kl > fine.kl > 0
    assert coarse.failure is not None and "--max-kl 1e-12" in coarse.failure.why
    assert "f16" in coarse.failure.why and "measured on" in coarse.failure.why
    kept = tmp_path / "state" / "pagewise" / "tune" / "divergences.jsonl"
    before = kept.read_bytes()
    between = (coarse.kl * fine.kl) ** 0.5
    some = by_types(await tuned(real, 8, plain, aim(max_kl=between), *KV))
    assert some["q4_0", "q4_0"].outcome == "ruled out" and some["q4_0", "q4_0"].kl == coarse.kl
    assert some["q8_0", "q8_0"].outcome not in ("ruled out", "failed")
    assert "KL divergence" in some["q8_0", "q8_0"].why
    assert kept.read_bytes() == before


async def test_a_start_that_costs_too_much_begins_from_f16(real: Talk, plain: Profile) -> None:
    small = Profile(**{**{k: getattr(plain, k) for k in plain.__struct_fields__}, "cache_type_k": "q4_0"})
    done = await tuned(real, 7, small, aim(max_kl=1e-12), *KV)
    assert done.start.profile.cache_type_k == "f16" and done.begun_elsewhere
    assert "cache_type_k: q4_0 → f16" in done.notes[0]


async def test_quants_are_found_compared_and_told_by_what_they_cost(real: Talk, plain: Profile) -> None:
    small = make_quantized(Path(plain.model), "Q4_0")
    done = await tuned(real, 7, plain, aim(), *FILE, quants=(QuantWish("Q4_0"),))
    trial = done.trials[1]
    # What cannot be told apart is looked at once more.
    assert {each.changes for each in done.trials[1:]} == {trial.changes}
    assert trial.profile.model == str(small) and trial.profile.quant is None
    assert trial.changes == (f"model: {Path(plain.model).name} → {small.name}",)
    assert trial.kl is not None and trial.kl > 0
    assert "Q4_0 instead of F16" in trial.why and "from F16 (measured on" in trial.why
    limited = await tuned(real, 8, plain, aim(max_kl=trial.kl / 2), *FILE, quants=(QuantWish("Q4_0"),))
    assert [each.outcome for each in limited.trials] == ["start", "ruled out"]


async def test_a_start_worse_than_the_limit_begins_from_the_best_file(real: Talk, plain: Profile) -> None:
    small = make_quantized(Path(plain.model), "Q4_0")
    start = Profile(name="small", model=str(small), n_ctx=1024, threads=1)
    done = await tuned(real, 7, start, aim(max_kl=1e-6), *FILE, quants=(QuantWish(model=plain.model),))
    assert done.start.profile.model == plain.model and done.begun_elsewhere
    assert done.best.number == 0 and done.is_new


async def test_a_quant_that_is_not_there_or_of_another_model_is_said(real: Talk, plain: Profile) -> None:
    real.send(Tune(7, plain, aim(), quants=(QuantWish("Q2_K"),)))
    assert "is not there as Q2_K" in (await real.wait(JobFailed)).failure.what
    real.send(Tune(8, plain, aim(), quants=(QuantWish(model=str(make_model(n_layer=3))),)))
    assert "is another model" in (await real.wait(JobFailed)).failure.what


async def test_a_text_that_is_not_there_ends_it_before_minutes_go_by(real: Talk, plain: Profile) -> None:
    real.send(Tune(7, plain, aim(max_kl=0.1, text="/nowhere/text.txt")))
    assert "text.txt cannot be read" in (await real.wait(JobFailed)).failure.what
    assert real.all(TrialEnded) == []

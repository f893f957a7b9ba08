"""What goes wrong in a trial costs that trial: engines are scripts that die where they are told to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.host.talk import Talk, children, profile
from tests.synthetic import make_model, make_quantized

from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.tune import Aim, Trial, TrialEnded, Tune, Tuned
from pagewise.messages import Stop

AIM = Aim(n_prompt=32, n_output=16, depth=0)


async def tuned(talk: Talk, id: int, *words: str, most_trials: int = 8, **keys: object) -> Tuned:
    talk.send(Tune(id, profile("mine", *words, **keys), AIM, most_trials=most_trials))
    return await talk.wait(Tuned, lambda event: event.id == id)


def failed(done: Tuned) -> list[Trial]:
    return [trial for trial in done.trials if trial.outcome == "failed"]


@pytest.mark.parametrize(
    ("word", "said"), [("crashes", "SIGSEGV"), ("resets", "CUDA error: unspecified launch failure")]
)
async def test_an_engine_that_dies_is_one_lost_trial(talk: Talk, word: str, said: str) -> None:
    done = await tuned(talk, 7, f"{word}:flash_attention=on")
    (lost,) = failed(done)
    assert lost.changes == ("flash_attention: off → on",)
    assert lost.failure is not None and said in lost.failure.why
    assert done.trials[lost.number + 1 :], "the tune went on"


@pytest.mark.parametrize("word", ["crashes", "resets"])
async def test_what_an_engine_died_of_once_is_tried_again_by_the_next_tune(talk: Talk, word: str) -> None:
    assert failed(await tuned(talk, 7, f"{word}:flash_attention=on"))
    assert failed(await tuned(talk, 8, f"{word}:flash_attention=on"))


async def test_what_an_engine_has_refused_is_not_tried_by_the_next_tune(talk: Talk) -> None:
    assert failed(await tuned(talk, 7, "refuses:flash_attention=on"))
    assert not failed(await tuned(talk, 8, "refuses:flash_attention=on"))


async def test_a_drivers_fault_is_told_as_one(talk: Talk) -> None:
    (lost,) = failed(await tuned(talk, 7, "resets:flash_attention=on"))
    assert lost.failure is not None and "driver" in lost.failure.what and "later tune" in lost.failure.next
    (crash,) = failed(await tuned(talk, 8, "crashes:flash_attention=on"))
    assert crash.failure is not None and "driver of a device" not in crash.failure.what


async def test_an_illegal_instruction_of_repacking_is_remembered_for_every_model(talk: Talk, tmp_path: Path) -> None:
    path = make_quantized(make_model(n_embd=256), "Q4_0")
    first = profile("one", "illegal:repack=on")
    talk.send(Tune(7, msgspec.structs.replace(first, model=str(path)), AIM, most_trials=8))
    done = await talk.wait(Tuned)
    (lost,) = failed(done)
    assert lost.changes == ("repack: off → on",)
    # The ledger of this model is gone: only what is known of the machine is left.
    for ledger in (tmp_path / "state" / "pagewise" / "tune").glob("*.jsonl"):
        if ledger.name != "fatal.jsonl":
            ledger.unlink()
    talk.send(Tune(8, msgspec.structs.replace(first, model=str(path)), AIM, most_trials=8))
    again = await talk.wait(Tuned)
    assert not failed(again)
    (refused,) = [trial for trial in again.trials if trial.changes == ("repack: off → on",)]
    assert refused.outcome == "ruled out" and refused.failure is not None and "SIGILL" in refused.failure.why


async def test_a_profile_that_repacks_where_engines_die_of_it_begins_without(talk: Talk) -> None:
    path = make_quantized(make_model(n_embd=256), "Q4_0")
    mine = msgspec.structs.replace(profile("one", "illegal:repack=on"), model=str(path))
    talk.send(Tune(7, mine, AIM, most_trials=8))
    assert failed(await talk.wait(Tuned))
    talk.send(Tune(8, msgspec.structs.replace(mine, repack="on"), AIM, most_trials=2))
    done = await talk.wait(Tuned)
    assert done.start.profile.repack == "off" and done.begun_elsewhere and done.is_new
    assert "repack: on → off" in done.notes[0]


async def test_a_start_that_dies_is_told_and_leaves_no_engine(talk: Talk) -> None:
    talk.send(Tune(7, profile("mine", "crashes:threads=0"), AIM))
    died = await talk.wait(JobFailed)
    assert "SIGSEGV" in died.failure.why
    assert talk.client.pid is not None and children(talk.client.pid) == []


@pytest.mark.parametrize("phase", ["", "load", "measure"])
async def test_stopped_at_any_moment_no_engine_is_left(talk: Talk, phase: str) -> None:
    talk.send(Tune(7, profile("mine", "endless"), AIM))
    if phase:
        await talk.wait(JobProgress, lambda event: event.phase.startswith(phase))
    talk.send(Stop(7))
    assert (await talk.wait(JobFailed)).cancelled
    assert talk.all(TrialEnded) == []
    assert talk.client.pid is not None and children(talk.client.pid) == []


async def test_a_profile_that_is_refused_begins_with_the_smallest_change_that_is_not(talk: Talk) -> None:
    done = await tuned(talk, 7, "refuses:load_mode=none", load_mode="none", most_trials=2)
    assert done.start.profile.load_mode == "auto" and done.begun_elsewhere
    assert "It was refused" in done.notes[0] and "load_mode: none → auto" in done.notes[0]


async def test_a_profile_that_is_refused_whatever_may_be_changed_is_told_as_it_was(talk: Talk) -> None:
    talk.send(Tune(7, profile("mine", "refuses"), AIM))
    assert (await talk.wait(JobFailed)).failure.what == "It was refused"

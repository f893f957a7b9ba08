"""The lines of ``pagewise tune``: what is measured, each trial, and what is offered when it is stopped."""

from __future__ import annotations

import shlex

import msgspec
import pytest

from pagewise.commands import tune
from pagewise.commands.tune_aim import Wanted
from pagewise.failure import Failure
from pagewise.jobs.tune import Aim, Trial, TrialEnded, Tuned
from pagewise.profiles.files import overridden
from pagewise.settings import Keep, Profile

START = Profile(name="mine", model="/m/a.gguf", n_ctx=4096)
BETTER = msgspec.structs.replace(START, n_ctx=8192, threads=4, placement=Keep("800MiB"), probe_every=0)
FIRST = Trial(0, START, (), "where you are", "start", cost=20.0, tpot_ms=20.0)
SECOND = Trial(
    1, BETTER, ("threads: 8 → 4",), "because", "better", cost=10.0, tpot_ms=10.0, gain=2.0, low=1.9, high=2.1
)


def test_where_the_depth_comes_from_is_said_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "ask_host", lambda *_: 1)
    aim = Aim(depth=2310, depth_from="the median of the last 41 replies", max_kl=0.02)
    assert tune.run(Wanted(START, aim, ()), tune.Limits(), None, json=False) == 1
    said = capsys.readouterr().out
    assert "at depth 2 310 (the median of the last 41 replies)" in said.replace("\xa0", " ")
    assert "KL divergence of 0.02" in said


def test_stopped_the_best_so_far_is_offered_as_words_for_a_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(make: object, kind: object, heard: object) -> int:
        for trial in (FIRST, SECOND):
            heard(TrialEnded(1, trial, trial.number, 9, None))  # type: ignore[operator]
        return 130

    monkeypatch.setattr(tune, "ask_host", stopped)
    assert tune.run(Wanted(START, Aim(), ()), tune.Limits(), "name", json=False) == 130
    said = capsys.readouterr().out
    assert "about 2.00× the start, not measured again" in said
    assert "threads: 8 → 4: 2.00×" in said
    # What the person's own profile says stays unsaid: context and probe are not the tuner's.
    assert "--set threads=4" in said and "--set 'placement={keep = \"800MiB\"}'" in said
    assert "n_ctx" not in said and "probe_every" not in said


def test_what_went_back_to_its_default_and_another_file_are_said_too() -> None:
    asked = Profile(name="mine", model="/m/a b-Q8_0.gguf", quant="Q8_0", threads=8, tensor_overrides=("x=CPU",))
    best = msgspec.structs.replace(asked, model="/m/a b.gguf", quant=None, threads=0, tensor_overrides=())
    words = tune._words(asked, best)
    assert "--model '/m/a b.gguf'" in words and not any("quant" in word for word in words)
    assert "--set threads=0" in words
    overrides = ["x"]
    for word in words:
        key, _, value = shlex.split(word)[1].partition("=")
        if key == "tensor_overrides":
            overrides = overridden(asked, f"{key}={value}").tensor_overrides
    assert overrides == ()
    quant = tune._words(best, asked)
    assert "--model '/m/a b-Q8_0.gguf'" in quant and "--set quant=Q8_0" in quant
    assert tune._words(asked, asked) == []


def test_a_trial_that_is_ruled_out_says_why_in_words() -> None:
    refused = Failure(
        "It would cost too much quality", "KL divergence 0.03; --max-kl 0.01 is the highest.", "Allow more."
    )
    line = tune.trial_line(Trial(3, START, ("cache_type_k: f16 → q4_0",), "why", "ruled out", failure=refused, kl=0.03))
    assert "ruled out" in line and "KL 0.03" in line and "--max-kl 0.01 is the highest" in line


def test_a_start_that_is_not_the_persons_is_no_find_but_is_new() -> None:
    found = Tuned(1, FIRST, FIRST, (FIRST,), 1.0, 1.0, 1.0, 0, (), ("It began with n_gpu_layers: all → fit.",))
    assert not found.is_new
    elsewhere = msgspec.structs.replace(found, begun_elsewhere=True)
    assert elsewhere.is_new
    assert "where it began" in "\n".join(tune.summary(elsewhere))

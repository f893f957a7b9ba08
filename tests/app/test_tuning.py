"""The tuner as it is drawn, from the events of a tune."""

from __future__ import annotations

import msgspec

from pagewise.app.spans import plain, width_of
from pagewise.app.tuning.drawing import draw_head, draw_result, draw_state, draw_trial, draw_trial_detail
from pagewise.app.tuning.found import found_profile, keys_of
from pagewise.app.tuning.plot import draw_plot
from pagewise.app.tuning.state import Tuning
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.tune import Aim, FixKey, TakeBest, Trial, TrialEnded, Tune, Tuned
from pagewise.messages import Command, Failure
from pagewise.settings import Profile, Sampling

START = Profile(name="mine", threads=8, n_ctx=4096, sampling=Sampling(temperature=0.3))


def trial(number: int, outcome: str, tpot: float, memory: int, **keys: object) -> Trial:
    return Trial(
        number,
        msgspec.structs.replace(START, n_ctx=8192, probe_every=0, **keys),
        tuple(f"{key}: ? → {value}" for key, value in keys.items()),
        "a reason",
        outcome,  # type: ignore[arg-type]
        ttft_ms=100.0,
        tpot_ms=tpot,
        cost=tpot,
        gain=1.25,
        low=1.2,
        high=1.3,
        pairs=3,
        memory_bytes=memory,
    )


def tuning() -> tuple[Tuning, list[Command]]:
    sent: list[Command] = []
    made = Tuning(Tune(4, START), sent.append, lambda: None)
    made.news(TrialEnded(4, trial(0, "start", 20.0, 2**30), 0, 15, 60.0))
    made.news(TrialEnded(4, trial(1, "better", 16.0, 2**31, threads=4), 1, 14, 50.0))
    made.news(TrialEnded(4, trial(2, "worse", 25.0, 3 * 2**29, flash_attention="off"), 1, 13, 40.0))
    return made, sent


def text(lines: list[tuple[tuple[str, str], ...]]) -> str:
    return "\n".join(plain(line) for line in lines)


def test_the_state_says_how_far_it_is_and_what_is_best() -> None:
    made, _ = tuning()
    shown = text(draw_state(made, 76))
    assert "trial 3 of 15 at most" in shown and "40" in shown
    assert "1.25× the start" in shown


def test_rows_fit_any_width_with_their_figures() -> None:
    made, _ = tuning()
    for width in (30, 60, 76, 110):
        for line in (draw_head(width), *(draw_trial(each, made.best, width) for each in made.trials)):
            assert width_of(line) <= width
    assert "1.25×" in plain(draw_trial(made.trials[1], 1, 76))
    detail = text(draw_trial_detail(made.trials[1], 76))
    assert "a reason" in detail and "1.200 to 1.300, 3 pairs" in detail


def test_the_plot_marks_start_and_best_and_leaves_out_what_would_say_nothing() -> None:
    made, _ = tuning()
    lines = draw_plot(made.trials, 1, 76, 9)
    assert len(lines) == 9 and all(width_of(line) <= 76 for line in lines)
    body = text(lines[1:])
    assert body.count("○") == 1 and body.count("●") == 1
    alike = [msgspec.structs.replace(each, memory_bytes=2**30) for each in made.trials]
    assert draw_plot(alike, 1, 76, 9) == []


def test_a_result_tells_its_evidence() -> None:
    made, _ = tuning()
    made.answered(
        Tuned(4, made.trials[0], made.trials[1], tuple(made.trials), 1.24, 1.2, 1.28, 5, ("threads: 8 → 4: 1.25×",))
    )
    shown = text(draw_result(made, 76))
    assert made.over and "1.240×" in shown and "1.200 to 1.280 in 5 pairs" in shown and "threads: 8 → 4" in shown


def test_a_failure_is_told_with_what_to_do() -> None:
    made, _ = tuning()
    made.answered(JobFailed(4, Failure("It broke", "A reason.", "Do this."), cancelled=False))
    shown = text(draw_result(made, 76))
    assert made.over and "It broke" in shown and "Do this." in shown


def test_wishes_go_to_the_job_once() -> None:
    made, sent = tuning()
    made.news(JobProgress(4, "load mine", 1, 2))
    made.fix("threads")
    made.fix("threads")
    made.take_best()
    assert sent == [FixKey(4, "threads"), TakeBest(4)]
    assert made.phase == "load mine 50 %"


def test_what_was_found_keeps_what_is_the_persons_own() -> None:
    found = found_profile(START, trial(1, "better", 16.0, 1, threads=4).profile)
    assert found.threads == 4 and found.n_ctx == 4096 and found.probe_every == 16
    assert keys_of(found) == {"threads": 4, "sampling.temperature": 0.3}


def test_where_the_depth_comes_from_is_on_the_screen() -> None:
    aim = Aim(depth=2310, depth_from="the median of the last 41 replies of this model")
    asked = Tuning(Tune(4, START, aim), lambda command: None, lambda: None)
    assert "the median of the last 41 replies" in text(draw_state(asked, 76))
    in_place = Tuning(Tune(4, START, aim, in_place=True), lambda command: None, lambda: None)
    assert "median" not in text(draw_state(in_place, 76))

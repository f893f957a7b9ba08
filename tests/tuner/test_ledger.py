from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pagewise.jobs.tune import Aim, Trial
from pagewise.settings import Profile
from pagewise.tuner.ledger import Entry, Ledger, begin_from, conditions
from pagewise.tuner.move import signature

START = Profile(name="mine", n_ctx=4096)
AIM = Aim()


def trial(outcome: str, **keys: object) -> Trial:
    return Trial(1, Profile(name="tried", n_ctx=2048, **keys), (), "", outcome)  # type: ignore[arg-type]


def entry(outcome: str, aim: Aim = AIM, start: Profile = START, is_lasting: bool = False, **keys: object) -> Entry:
    return Entry("this machine", "chat", trial(outcome, **keys), conditions(aim, start), is_lasting)


def test_trials_come_back_for_the_same_machine_and_goal_alone(tmp_path: Path) -> None:
    Ledger("a model", "this machine", "chat", tmp_path).keep(trial("better", threads=4), START, AIM)
    assert [kept.trial.profile.threads for kept in Ledger("a model", "this machine", "chat", tmp_path).entries()] == [4]
    assert Ledger("a model", "another machine", "chat", tmp_path).entries() == []
    assert Ledger("a model", "this machine", "batch", tmp_path).entries() == []
    assert Ledger("another model", "this machine", "chat", tmp_path).entries() == []


def test_a_line_that_was_cut_costs_that_line(tmp_path: Path) -> None:
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    for threads in (1, 2):
        ledger.keep(trial("worse", threads=threads), START, AIM)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-20] + b"\n\xff\xfe rubbish\n")
    ledger.keep(trial("better", threads=3), START, AIM)
    assert [kept.trial.profile.threads for kept in ledger.entries()] == [1, 3]


def test_a_folder_that_cannot_be_written_to_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger("a model", "this machine", "chat", tmp_path / "file" / "folder")
    ledger.keep(trial("better"), START, AIM)
    assert ledger.entries() == []


def test_the_next_tune_begins_with_the_best_and_leaves_out_what_lost() -> None:
    moves, lost = begin_from([entry("worse", threads=1), entry("better", threads=4)], START, AIM)
    (move,) = moves
    assert move.changes == (("threads", 4),)
    assert move.applied(START).n_ctx == 4096
    assert lost == {signature(Profile(name="any", n_ctx=4096, threads=1))}


def test_smaller_kv_types_of_an_earlier_tune_need_leave_again() -> None:
    tried = [entry("better", threads=4, cache_type_k="q8_0", cache_type_v="q8_0")]
    (careful,), _ = begin_from(tried, START, Aim())
    (free,), _ = begin_from(tried, START, Aim(kv_types=True))
    assert careful.changes == (("threads", 4),)
    assert ("cache_type_k", "q8_0") in free.changes


def test_what_is_fixed_now_stays_the_starts_whatever_an_earlier_tune_found() -> None:
    tried = [entry("better", threads=4, n_ubatch=128)]
    (move,), _ = begin_from(tried, START, Aim(), fixed=("threads",))
    assert move.changes == (("n_ubatch", 128),)


def test_another_file_of_an_earlier_tune_needs_leave_again(tmp_path: Path) -> None:
    start = Profile(name="mine", model="/m/a-Q8_0.gguf")
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    small = Profile(name="tried", model="/m/a-Q4_K_M.gguf", threads=4)
    ledger.keep(Trial(1, small, (), "", "better"), start, AIM)
    assert begin_from(ledger.entries(), start, Aim()) == ([], set())
    (move,), _ = begin_from(ledger.entries(), start, Aim(), others=[("/m/a-Q4_K_M.gguf", None)])
    assert ("model", "/m/a-Q4_K_M.gguf") in move.changes


def test_a_file_that_was_moved_is_still_the_one_of_its_trials(tmp_path: Path) -> None:
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    there = Profile(name="tried", model="/before/a.gguf", threads=4)
    ledger.keep(Trial(1, there, (), "", "better"), Profile(name="mine", model="/before/a.gguf"), AIM)
    (move,), _ = begin_from(ledger.entries(), Profile(name="mine", model="/now/a.gguf"), Aim())
    assert move.changes == (("threads", 4),)


@pytest.mark.parametrize(
    "other",
    [
        {"depth": 16384}, {"n_prompt": 2048}, {"n_output": 512}, {"ttft_bound_ms": 100.0}, {"leave_free_bytes": 1},
        {"leave_free_on": (("CUDA0", 1),)},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_lost_at_something_else_may_be_tried_again_and_what_won_is_a_first_move(
    other: dict[str, Any],
) -> None:
    elsewhere = msgspec.structs.replace(AIM, **other)
    tried = [entry("worse", elsewhere, threads=1), entry("better", elsewhere, threads=4)]
    moves, lost = begin_from(tried, START, AIM)
    assert lost == set() and moves[0].changes == (("threads", 4),)


def test_depths_that_are_nearly_the_same_are_the_same() -> None:
    near, far = Aim(depth=1100), Aim(depth=3000)
    assert begin_from([entry("worse", near, threads=1)], START, AIM)[1]
    assert not begin_from([entry("worse", far, threads=1)], START, AIM)[1]


def test_what_won_at_the_same_comes_before_what_won_later_at_something_else() -> None:
    tried = [entry("better", threads=4), entry("better", Aim(depth=16384), threads=6)]
    ((move,), _) = begin_from(tried, START, AIM)
    assert move.changes == (("threads", 4),)


def test_of_what_failed_only_what_would_fail_again_is_left_out() -> None:
    long = msgspec.structs.replace(START, n_ctx=32768)
    assert not begin_from([entry("failed", threads=1)], START, AIM)[1]
    assert begin_from([entry("failed", is_lasting=True, threads=1)], START, AIM)[1]
    assert not begin_from([entry("failed", start=long, is_lasting=True, threads=1)], START, AIM)[1]


def test_a_line_of_an_older_version_has_not_lost(tmp_path: Path) -> None:
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    ledger.keep(trial("worse", threads=1), START, AIM)
    line = msgspec.json.decode(ledger.path.read_bytes())
    del line["measured_for"]
    ledger.path.write_bytes(msgspec.json.encode(line) + b"\n")
    assert len(ledger.entries()) == 1
    assert begin_from(ledger.entries(), START, AIM) == ([], set())


def test_what_an_earlier_tune_was_to_leave_free_is_no_part_of_what_it_found() -> None:
    tried = [entry("better", threads=4, fit_margin="8GiB"), entry("worse", threads=1, fit_margin="8GiB")]
    (move,), lost = begin_from(tried, START, AIM)
    assert move.changes == (("threads", 4),)
    assert lost == {signature(Profile(name="any", n_ctx=4096, threads=1))}
    # Where today's wish is another one, what lost has lost all the same.
    roomy = msgspec.structs.replace(START, fit_margin="2GiB")
    assert begin_from(tried, roomy, AIM)[1] == lost

from __future__ import annotations

from pathlib import Path

from pagewise.jobs.tune import Aim, Trial
from pagewise.settings import Profile
from pagewise.tuner.ledger import Ledger, begin_from
from pagewise.tuner.move import signature

START = Profile(name="mine", n_ctx=4096)


def trial(outcome: str, **keys: object) -> Trial:
    return Trial(1, Profile(name="tried", n_ctx=2048, **keys), (), "", outcome)  # type: ignore[arg-type]


def test_trials_come_back_for_the_same_machine_and_goal_alone(tmp_path: Path) -> None:
    Ledger("a model", "this machine", "chat", tmp_path).keep(trial("better", threads=4), START)
    assert [kept.profile.threads for kept in Ledger("a model", "this machine", "chat", tmp_path).trials()] == [4]
    assert Ledger("a model", "another machine", "chat", tmp_path).trials() == []
    assert Ledger("a model", "this machine", "batch", tmp_path).trials() == []
    assert Ledger("another model", "this machine", "chat", tmp_path).trials() == []


def test_a_line_that_was_cut_costs_that_line(tmp_path: Path) -> None:
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    for threads in (1, 2):
        ledger.keep(trial("worse", threads=threads), START)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-20] + b"\n\xff\xfe rubbish\n")
    ledger.keep(trial("better", threads=3), START)
    assert [kept.profile.threads for kept in ledger.trials()] == [1, 3]


def test_a_folder_that_cannot_be_written_to_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger("a model", "this machine", "chat", tmp_path / "file" / "folder")
    ledger.keep(trial("better"), START)
    assert ledger.trials() == []


def test_the_next_tune_begins_with_the_best_and_leaves_out_what_lost() -> None:
    moves, lost = begin_from([trial("worse", threads=1), trial("better", threads=4)], START, Aim())
    (move,) = moves
    assert move.changes == (("threads", 4),)
    assert move.applied(START).n_ctx == 4096
    assert lost == {signature(Profile(name="any", n_ctx=4096, threads=1))}


def test_smaller_kv_types_of_an_earlier_tune_need_leave_again() -> None:
    tried = [trial("better", threads=4, cache_type_k="q8_0", cache_type_v="q8_0")]
    (careful,), _ = begin_from(tried, START, Aim())
    (free,), _ = begin_from(tried, START, Aim(kv_types=True))
    assert careful.changes == (("threads", 4),)
    assert ("cache_type_k", "q8_0") in free.changes


def test_what_is_fixed_now_stays_the_starts_whatever_an_earlier_tune_found() -> None:
    tried = [trial("better", threads=4, n_ubatch=128)]
    (move,), _ = begin_from(tried, START, Aim(), fixed=("threads",))
    assert move.changes == (("n_ubatch", 128),)


def test_another_file_of_an_earlier_tune_needs_leave_again(tmp_path: Path) -> None:
    start = Profile(name="mine", model="/m/a-Q8_0.gguf")
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    small = Profile(name="tried", model="/m/a-Q4_K_M.gguf", threads=4)
    ledger.keep(Trial(1, small, (), "", "better"), start)
    assert begin_from(ledger.trials(), start, Aim()) == ([], set())
    (move,), _ = begin_from(ledger.trials(), start, Aim(), others=[("/m/a-Q4_K_M.gguf", None)])
    assert ("model", "/m/a-Q4_K_M.gguf") in move.changes


def test_a_file_that_was_moved_is_still_the_one_of_its_trials(tmp_path: Path) -> None:
    ledger = Ledger("a model", "this machine", "chat", tmp_path)
    there = Profile(name="tried", model="/before/a.gguf", threads=4)
    ledger.keep(Trial(1, there, (), "", "better"), Profile(name="mine", model="/before/a.gguf"))
    (move,), _ = begin_from(ledger.trials(), Profile(name="mine", model="/now/a.gguf"), Aim())
    assert move.changes == (("threads", 4),)

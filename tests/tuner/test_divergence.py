from __future__ import annotations

from pathlib import Path

from pagewise.settings import Profile
from pagewise.tuner.divergence import TEXT, Divergences, Part, Subject, parts, text_key
from pagewise.tuner.fatal import FatalSettings

BEST, OWN = "a-Q8_0.gguf:8", "a-Q4_K_M.gguf:4"


def test_what_was_measured_comes_back_for_the_same_pair_and_text_alone(tmp_path: Path) -> None:
    small = Subject(BEST, "q8_0", "q8_0")
    Divergences("one/512", tmp_path).keep(Subject(BEST), small, 0.002, 0.0001, 1020)
    found = Divergences("one/512", tmp_path).known(Subject(BEST), small)
    assert found is not None and (found.kl, found.error, found.scored) == (0.002, 0.0001, 1020)
    assert Divergences("other/512", tmp_path).known(Subject(BEST), small) is None
    assert Divergences("one/512", tmp_path).known(Subject(BEST), Subject(BEST, "q8_0", "q4_0")) is None
    assert Divergences("one/512", tmp_path).known(Subject(OWN), small) is None


def test_the_measurement_on_most_tokens_counts_and_one_on_too_few_chunks_does_not(tmp_path: Path) -> None:
    kept, pair = Divergences("one/512", tmp_path), (Subject(BEST), Subject(OWN))
    kept.keep(*pair, 0.03, 0.001, 1020, 4)
    kept.keep(*pair, 0.05, 0.01, 255, 1)
    assert kept.known(*pair) == kept.known(*pair, 4)
    assert kept.known(*pair).scored == 1020  # type: ignore[union-attr]
    assert kept.known(*pair, 5) is None


def test_a_line_that_was_cut_has_to_be_measured_again(tmp_path: Path) -> None:
    kept = Divergences("one/512", tmp_path)
    kept.keep(Subject(BEST), Subject(OWN), 0.03, 0.0, 1020)
    kept.path.write_bytes(kept.path.read_bytes()[:-10])
    assert kept.known(Subject(BEST), Subject(OWN)) is None


def test_quant_and_kv_types_cost_apart_from_each_other() -> None:
    plain = Profile(name="a")
    small = Profile(name="a", cache_type_k="q8_0", cache_type_v="q8_0")
    kv_types = Part(Subject(OWN), Subject(OWN, "q8_0", "q8_0"))
    assert parts(plain, BEST, BEST) == ()
    assert parts(small, OWN, OWN) == (kv_types,)
    assert parts(plain, OWN, BEST) == (Part(Subject(BEST), Subject(OWN)),)
    assert parts(small, OWN, BEST) == (Part(Subject(BEST), Subject(OWN)), kv_types)
    assert parts(Profile(name="a", cache_type_k="bf16", cache_type_v="f32"), OWN, OWN) == ()


def test_texts_and_chunks_are_told_apart() -> None:
    assert len({text_key(b"a", 512), text_key(b"a", 256), text_key(b"b", 512)}) == 3


def test_the_text_that_ships_is_long_enough_for_two_chunks_of_any_tokenizer() -> None:
    assert len(TEXT.read_bytes()) > 8000


def test_a_fatal_setting_is_known_on_this_machine_and_build_alone(tmp_path: Path) -> None:
    FatalSettings("this", "build 1", tmp_path).keep("repack", "on", "SIGILL")
    FatalSettings("this", "build 1", tmp_path).keep("repack", "on", "again")
    assert FatalSettings("this", "build 1", tmp_path).why("repack", "on") == "SIGILL"
    assert FatalSettings("this", "build 1", tmp_path).why("repack", "off") is None
    assert FatalSettings("this", "build 2", tmp_path).why("repack", "on") is None
    assert FatalSettings("that", "build 1", tmp_path).why("repack", "on") is None

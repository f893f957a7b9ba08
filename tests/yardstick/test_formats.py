from __future__ import annotations

import csv
import io

import msgspec
import pytest

from pagewise.bench.anchor import Anchor
from pagewise.bench.formats import as_csv, as_markdown, as_records, table, title
from pagewise.bench.spread import paired_ratio, spread
from pagewise.bench.workload import context_for, workload
from pagewise.jobs.bench import Benched, BenchModel, BenchRow, BenchTest
from pagewise.jobs.measure import Measured
from pagewise.settings import Profile


def model(name: str) -> BenchModel:
    return BenchModel(
        profile=Profile(name=name), path="/models/a.gguf", name="A|B", architecture="llama", quant="Q8_0",
        n_params=10, file_bytes=20, weight_bytes=15, n_ctx=512, n_batch=512, n_ubatch=256, threads=2,
        threads_batch=4, flash_attention=True, repacked=False, offloaded_layers=0, buffers=(), load_ms=1.0,
    )  # fmt: skip


def result(*, in_turns: bool = False) -> Benched:
    decode = BenchTest("decode", 0, 10)
    chat = BenchTest("chat", 5, 3, 100)
    slow = tuple(Measured(0, decode_ns=ns, n_output=10) for ns in (100_000_000, 200_000_000))
    fast = tuple(Measured(0, decode_ns=ns, n_output=10) for ns in (50_000_000, 100_000_000))
    felt = (Measured(0, prefill_ns=10, decode_ns=40_000_000, ttft_ns=7_000_000, n_prompt=5, n_output=3),)
    rows = (
        BenchRow(0, decode, slow, 0.01, 0.0, began_at=1_767_323_045.0),
        BenchRow(0, chat, felt, 0.01, None),
        BenchRow(1, decode, fast, 0.01, 0.0),
    )
    devices = ("CUDA0: a card", "CPU: a processor")
    return Benched(1, (model("one"), model("two")), rows, "b1", "a processor", devices, ("a note",), in_turns)


def test_records_have_llama_benchs_names_and_figures() -> None:
    first, chat, _ = as_records(result())
    assert first["n_gen"] == 10 and first["n_prompt"] == 0 and first["n_depth"] == 0
    assert first["samples_ns"] == [100_000_000, 200_000_000]
    assert first["avg_ns"] == 150_000_000
    assert first["avg_ts"] == pytest.approx((100 + 50) / 2)
    assert first["n_threads"] == 2
    assert chat["ttft_ms"] == 7.0 and chat["tpot_ms"] == 20.0 and chat["n_depth"] == 100
    assert first["samples_ts"] == [100.0, 50.0]
    assert first["model_size"] == 15 and first["flash_attn"] == -1 and first["repack"] is False
    assert first["gpu_info"] == "CUDA0: a card"
    assert first["test_time"] == "2026-01-02T03:04:05Z"


def test_a_chat_under_llama_benchs_names_is_its_prompt_and_its_answer_together() -> None:
    chat = as_records(result())[1]
    assert chat["n_prompt"] == 5 and chat["n_gen"] == 3
    assert chat["avg_ns"] == 47_000_000
    assert chat["avg_ts"] == pytest.approx(8 / 0.047)


def test_profiles_stand_beside_each_other_with_their_ratio() -> None:
    head, cells = table(result())
    assert head[-2:] == ["ratio", "95 %"]
    assert [line[-2:] for line in cells] == [["1.000", ""], ["1.000", ""], ["2.000", ""]]
    assert cells[0][2] == "tg10" and cells[1][2] == "chat 5+3 @ d100"


def test_what_was_measured_in_turns_has_an_interval() -> None:
    _, cells = table(result(in_turns=True))
    assert cells[2][-2:] == ["2.000", "2.000 … 2.000"] and cells[0][-1] == ""
    one, _, two = as_records(result(in_turns=True))
    assert (two["ratio"], two["ratio_low"], two["ratio_high"]) == pytest.approx((2.0, 2.0, 2.0))
    assert one["ratio_low"] is None


def test_markdown_and_csv_hold_what_the_table_holds() -> None:
    lines = as_markdown(result()).splitlines()
    assert len(lines) == 8 and "A\\|B" in lines[2]
    assert lines[6:] == ["a processor; llama.cpp b1", "- a note"]
    rows = list(csv.DictReader(io.StringIO(as_csv(result()))))
    assert [row["profile"] for row in rows] == ["one", "one", "two"]


def test_control_characters_of_names_are_shown_and_never_written_raw() -> None:
    bad = msgspec.structs.replace(
        model("a\x1b[31m"), path="/m/\x1b]0;x\x07.gguf", name="n\nn", profile=Profile(name="p\x1b[2J")
    )
    found = msgspec.structs.replace(result(), models=(bad, bad), notes=("n\x1b[2J",), cpu="c\x9b")
    for written in (as_csv(found), as_markdown(found)):
        assert all(letter.isprintable() or letter in "\r\n" for letter in written)
    assert len(list(csv.DictReader(io.StringIO(as_csv(found))))) == 3
    assert len(as_markdown(found).splitlines()) == 8


def test_titles_are_llama_benchs() -> None:
    assert title(BenchTest("prefill", 512)) == "pp512"
    assert title(BenchTest("decode", 0, 128, 4096)) == "tg128 @ d4096"


def test_lengths_and_depths_make_tests() -> None:
    tests = workload((512,), (128,), (0, 64))
    assert [title(test) for test in tests] == [
        "pp512", "tg128", "chat 512+128", "pp512 @ d64", "tg128 @ d64", "chat 512+128 @ d64",
    ]  # fmt: skip
    assert workload((0,), (128,), (0,)) == (BenchTest("decode", 0, 128),)
    assert context_for(tests) == 768
    assert context_for(()) == 256


def test_a_machine_that_drifted_does_not_hold() -> None:
    anchor = Anchor([1.0, 1.02, 0.9])
    assert anchor.holds(anchor.drift([1.05]))
    assert not anchor.holds(anchor.drift([1.2]))
    assert not anchor.holds(anchor.drift([0.8]))
    with pytest.raises(ValueError):
        Anchor([])


def test_pairs_give_a_ratio_with_its_interval() -> None:
    ratio = paired_ratio([2.0, 2.2, 1.8, 2.0], [1.0, 1.1, 0.9, 1.0])
    assert ratio is not None and ratio.value == pytest.approx(2.0) and ratio.is_clear
    alike = paired_ratio([1.0, 1.2], [1.2, 1.0])
    assert alike is not None and not alike.is_clear
    assert paired_ratio([], []) is None
    single = paired_ratio([3.0], [2.0])
    assert single is not None and not single.is_clear


def test_spread_of_nothing_is_none() -> None:
    assert spread([]) is None
    one = spread([2.0])
    assert one is not None and one.deviation == 0.0

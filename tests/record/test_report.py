from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.app import scenes, scenes_profiler
from tests.monitor import samples
from tests.record import story

from pagewise import messages
from pagewise.app.visible import visible_line
from pagewise.commands import report
from pagewise.messages import Failure
from pagewise.record.format import RecordError
from pagewise.record.reader import Record
from pagewise.record.report.summary import summarize
from pagewise.record.report.svg import MOST_COLUMNS, MOST_POINTS, Curve, heat_map, histogram, line_plot, ticks
from pagewise.record.report.tables import tables

_VOID = {"meta"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, what they fetch, and its text. Fails on a tag left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story.record(tmp_path_factory.mktemp("record") / "a.pwr", story.chat())


def page_of(file: Path, tmp_path: Path) -> tuple[str, Page]:
    out = tmp_path / "page.html"
    assert report.run(file, out, None)[-1] == f"wrote {out}"
    text = out.read_text()
    return text, Page(text)


def test_the_page_shows_the_plots_and_the_figures(chat: Path, tmp_path: Path) -> None:
    _, page = page_of(chat, tmp_path)
    titles = [value for name, value in page.attributes if name == "aria-label"]
    assert titles == [
        "TTFT distribution",
        "TPOT distribution",
        "ITL distribution",
        "Time by layer and token",
        "Page-in by layer and token",
        "Page-in",
        "Stalls",
        "Memory",
        "VRAM",
        "Power",
        "Pressure",
        "Layers in RAM over time",
    ]
    words = "".join(page.words)
    for said in (
        "RTX 4060",
        "18 of 29 on accelerators",
        "312 ms",
        "41.0 ms",
        "bound by RAM bandwidth",
        "4 more layers fit",
    ):
        assert said in words
    assert "Something <b>broke</b>" in words


def test_who_read_is_drawn_apart_where_readers_did(tmp_path: Path) -> None:
    file = story.record(
        tmp_path / "a.pwr",
        [
            (
                float(token),
                messages.Layers(
                    1,
                    replace(
                        scenes.clock(token),
                        page_in_bytes=(),
                        demand_bytes=(4096,) * 30,
                        read_ahead_bytes=(1 << 20,) * 30,
                    ),
                ),
            )
            for token in range(3)
        ],
    )
    _, page = page_of(file, tmp_path)
    maps = [value for name, value in page.attributes if name == "aria-label"]
    assert maps == ["Time by layer and token", "Demand by layer and token", "Read-ahead by layer and token"]


def test_nothing_is_fetched_and_nothing_runs(chat: Path, tmp_path: Path) -> None:
    text, page = page_of(chat, tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")] == []
    assert "default-src 'none'" in text
    assert "url(" not in text and "@import" not in text


def test_text_of_models_is_text(chat: Path, tmp_path: Path) -> None:
    text, page = page_of(chat, tmp_path)
    assert story.HOSTILE not in text
    assert story.HOSTILE in "".join(page.words)
    assert "\x1b" not in text and "␛[31mred␊" in text


def test_what_was_said_and_where_is_not_on_the_page(chat: Path, tmp_path: Path) -> None:
    text, _ = page_of(chat, tmp_path)
    for private in ("Q0?", "w1 w2", "w1 ", "/models/", ">box<", "secret"):
        assert private not in text


def test_a_cut_record_says_so_on_the_page(chat: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pwr"
    cut.write_bytes(chat.read_bytes()[:-3])
    _, page = page_of(cut, tmp_path)
    assert "The record is cut in the middle." in "".join(page.words)


def test_the_monitor_has_a_part_for_each_process(tmp_path: Path) -> None:
    file = story.record(tmp_path / "m.pwr", story.monitor(), "monitor")
    text, page = page_of(file, tmp_path)
    words = "".join(page.words)
    with Record(file) as record:
        summary = summarize(record)
    assert len(summary.subjects) == 2
    for subject in summary.subjects:
        assert len(subject.samples) == 20
        assert visible_line(subject.title) in words
    assert "\x1b" not in text + "".join(tables(summary).values())


def test_the_tables_have_every_figure(chat: Path, tmp_path: Path) -> None:
    lines = report.run(chat, tmp_path / "p.html", tmp_path / "tables")
    assert len(lines) == 8
    rows = {path.name: list(csv.DictReader(io.StringIO(path.read_text()))) for path in (tmp_path / "tables").iterdir()}
    assert {name: len(found) for name, found in rows.items()} == {
        "samples.csv": story.TURNS * story.TOKENS,
        "turns.csv": story.TURNS,
        "tokens.csv": story.TURNS * story.TOKENS,
        "layers.csv": story.TURNS * 2 * 30,
        "residency.csv": story.TURNS * story.TOKENS * 30,
        "stacks.csv": 0,
        "operators.csv": 0,
    }
    assert rows["turns.csv"][0]["cold"] == "1" and rows["turns.csv"][1]["ttft_ms"] == "312.0"
    assert rows["turns.csv"][0]["model"].startswith("'=Qwen")
    assert rows["layers.csv"][31]["page_in_bytes"] == "1"
    assert rows["layers.csv"][31]["demand_bytes"] == "101" and rows["layers.csv"][31]["read_ahead_bytes"] == ""
    assert rows["samples.csv"][1]["page_in_bytes_s"] == "1000000.0"
    assert float(rows["residency.csv"][8]["share"]) == pytest.approx(0.4, abs=0.003)


def test_profiles_are_on_the_page_and_in_the_tables(tmp_path: Path) -> None:
    hostile = replace(scenes_profiler.STACKS, program=story.HOSTILE, notes=("\x1b[31m",))
    deep = replace(scenes_profiler.STACKS, folded=";".join(f"f{n} (/secret/a.py:{n})" for n in range(90)) + " 7\n")
    told = [
        *story.chat()[:40],
        (5.0, messages.Stacks(9, scenes_profiler.STACKS)),
        (6.0, messages.Stacks(10, None, Failure("No stacks", "None.", "Go on."))),
        (7.0, messages.Operators(11, scenes_profiler.OPERATORS)),
        (8.0, messages.Stacks(12, hostile)),
        (9.0, messages.Stacks(13, deep)),
    ]
    file = story.record(tmp_path / "a.pwr", told)
    text, page = page_of(file, tmp_path)
    words = "".join(page.words)
    assert [value for name, value in page.attributes if name == "aria-label"].count("Flame graph") == 3
    assert "3 compute threads cannot be seen, which kept 2.9 cores busy" in words
    assert "llama_decode" in words and "20 % of the samples slept and are left out" in words
    assert "llama_decode (libllama.so): 300 samples, 75 %" in words
    assert "deeper rows are left out" in words
    assert "Token 12 at depth 340" in words and "2.00 times the 10.0 ms" in words
    for said in ("matrix product", "q4_K", "CUDA0", "expert product"):
        assert said in words
    assert "/x/tui" not in text and "/secret" not in text and "\x1b" not in text and story.HOSTILE not in text
    with Record(file) as record:
        made = tables(summarize(record))
    stacks = list(csv.DictReader(io.StringIO(made["stacks.csv"])))
    assert len(stacks) == 7 and stacks[0]["samples"] == "300"
    assert stacks[0]["stack"].endswith("llama_decode (libllama.so);ggml_graph_compute (libggml-cpu.so.0)")
    assert not any("/x/" in row["stack"] for row in stacks)
    operators = list(csv.DictReader(io.StringIO(made["operators.csv"])))
    assert len(operators) == len(scenes_profiler.NODES)
    assert (operators[3]["tensor"], operators[3]["bytes"], operators[3]["ms"]) == (
        "blk.0.attn_q.weight",
        "9000000",
        "1.5",
    )


def test_a_profile_of_nothing_but_sleep_says_so(tmp_path: Path) -> None:
    asleep = replace(scenes_profiler.STACKS, folded="thread (1): a;wait (/x/threading.py:3) 50\n")
    _, page = page_of(story.record(tmp_path / "a.pwr", [(1.0, messages.Stacks(9, asleep))]), tmp_path)
    assert "No thread ran while it was recorded." in "".join(page.words)


def test_a_profiled_token_is_in_no_distribution(tmp_path: Path) -> None:
    timing = replace(scenes.timing(20), itl_ms=(10.0,) * 9 + (900.0,) + (10.0,) * 9, profiled=(10,))
    told = [
        *story.chat()[:5],
        (1.0, messages.Generate(2, ())),
        (2.0, messages.Tokens(2, (1,), "a", 11, 11, 900.0, profiled=True)),
        (3.0, messages.Finished(2, "end", timing)),
    ]
    file = story.record(tmp_path / "a.pwr", told)
    text, _ = page_of(file, tmp_path)
    assert "900 ms" not in text
    with Record(file) as record:
        (row,) = csv.DictReader(io.StringIO(tables(summarize(record))["tokens.csv"]))
    assert (row["step_ms"], row["profiled"]) == ("900.0", "1")


def test_layers_that_a_monitor_saw_are_mapped_once_each(tmp_path: Path) -> None:
    told = [(float(second), messages.Monitored(samples.sample(samples.own()))) for second in range(5)]
    file = story.record(tmp_path / "m.pwr", told, "monitor")
    _, page = page_of(file, tmp_path)
    assert "Time by layer and token" in [value for name, value in page.attributes if name == "aria-label"]
    with Record(file) as record:
        summary = summarize(record)
    assert len(summary.clocks) == 1
    assert summary.subjects[0].samples[0].decode_rate == 42.5


def test_layers_of_two_engines_that_a_monitor_saw_are_two_maps(tmp_path: Path) -> None:
    other = replace(samples.own(), pid=7002, started_ticks=5000)
    told = [(0.0, messages.Monitored(samples.sample(samples.own(), other)))]
    _, page = page_of(story.record(tmp_path / "m.pwr", told, "monitor"), tmp_path)
    assert [value for name, value in page.attributes if name == "aria-label"].count("Time by layer and token") == 2
    assert {"pagewise 7001: Qwen3 30B A3B", "pagewise 7002: Qwen3 30B A3B"} <= set(page.words)


def test_a_few_cells_that_were_held_up_do_not_blank_a_map() -> None:
    columns = [[1.0] * 20 for _ in range(20)]
    for column in columns[:3]:
        column[0] = 1000.0
    drawn = heat_map(columns, [str(n) for n in range(20)], str, "x", ("a", "b"))
    assert 'class="h7"' in drawn and 'class="h0"' not in drawn
    assert "1.0 and more" in drawn
    assert "100.0</span>" in heat_map(columns, [str(n) for n in range(20)], str, "x", ("a", "b"), top=100.0)


def test_a_figure_that_is_not_known_is_an_empty_cell(tmp_path: Path) -> None:
    told = [one for one in story.chat() if type(one[1]).__name__ != "Finished"]
    with Record(story.record(tmp_path / "a.pwr", told)) as record:
        rows = list(csv.DictReader(io.StringIO(tables(summarize(record))["turns.csv"])))
    assert rows[0]["ttft_ms"] == "" and rows[0]["end"] == ""


def test_a_report_replaces_a_report_and_nothing_else(chat: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "page.html", tmp_path / "tables"
    report.run(chat, out, folder)
    report.run(chat, out, folder)
    out.write_text("my own page")
    with pytest.raises(RecordError, match="none of pagewise's reports"):
        report.run(chat, out, None)
    assert out.read_text() == "my own page"
    (folder / "turns.csv").write_text("name,age\n")
    with pytest.raises(RecordError, match=r"turns\.csv"):
        report.run(chat, tmp_path / "other.html", folder)
    assert not (tmp_path / "other.html").exists()
    with pytest.raises(RecordError):
        report.run(chat, chat, None)


def test_a_record_without_an_entry_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="nothing to report"):
        report.run(story.record(tmp_path / "a.pwr", []), None, None)


# ---- plots ----------------------------------------------------------------------------------------------------------


@given(st.floats(1e-6, 1e15))
def test_ticks_are_few_and_inside(top: float) -> None:
    found = ticks(top)
    assert 2 <= len(found) <= 8
    assert found[0] == 0 and found[-1] <= top * 1.001


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=50))
def test_any_values_make_a_histogram_that_counts_them_all(values: list[float]) -> None:
    page = Page(histogram(values, str, "x", [("p50", values[0])]))
    bars = [word for word in page.words if ": " in word]
    assert sum(int(bar.rpartition(": ")[2]) for bar in bars) == len(values)


@given(st.lists(st.none() | st.floats(min_value=0), max_size=30))
def test_any_values_make_a_line_and_a_map(values: list[float | None]) -> None:
    Page(line_plot(list(range(len(values))), [Curve("a", 1, values)], str, "x"))
    Page(heat_map([[value, None] for value in values], ["0", "1"], str, "x", ("a", "b")))


def test_a_gap_in_what_is_known_is_a_gap_in_the_line() -> None:
    assert line_plot([0, 1, 2, 3], [Curve("a", 1, [1, None, 2, 3])], str, "x").count("M") == 2


def test_of_many_points_none_is_hidden_by_a_lower_one() -> None:
    n = MOST_POINTS * 10
    values = [5.0 if index == 777 else 1.0 for index in range(n)]
    drawn = line_plot(range(n), [Curve("a", 1, values)], str, "x")
    assert drawn.count("L") < MOST_POINTS
    assert " 10.0L" in drawn


def test_a_heat_map_tells_unknown_from_nothing_and_narrows() -> None:
    drawn = heat_map([[0.0, None], [8.0, None]], ["0", "1"], str, "x", ("a", "b"), top=8.0)
    assert 'class="h0" d="M0 1' in drawn and 'class="h7" d="M1 1' in drawn and 'class="unknown" d="M0 0h2' in drawn
    wide = heat_map([[1.0]] * (MOST_COLUMNS * 3 + 1), ["0"], str, "x", ("a", "b"))
    assert f'viewBox="0 0 {MOST_COLUMNS} 1"' in wide

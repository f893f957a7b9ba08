"""From folded stacks to a flame graph."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pagewise
from pagewise.app.palette import HUES, hue
from pagewise.app.profiler import flame
from pagewise.app.profiler.drawing import describe, draw_row, hue_of, summary
from pagewise.app.profiler.flame import (
    Frame,
    Stack,
    joined,
    layout,
    library_of,
    matching,
    parse_folded,
    samples_of,
    short,
    tree,
    trunk_end,
)
from pagewise.app.profiler.saved import save_stacks, speedscope
from pagewise.app.spans import plain, width_of
from pagewise.readings import StackProfile

MAIN = "thread (7): MainThread;run (/x/tui/pagewise/engine/loop.py:{line});"
FOLDED = "".join(
    [
        MAIN.format(line=40) + "decode (/x/tui/pagewise/engine/decode.py:9);ffi_call (libffi.so.8);"
        "llama_decode (/v/lib/libllama.so);ggml_graph_compute (/v/lib/libggml-cpu.so.0) 60\n",
        MAIN.format(line=41) + "decode (/x/tui/pagewise/engine/decode.py:9);llama_decode (/v/lib/libllama.so);"
        "0x7f00aa (/v/lib/libggml-cpu.so.0);0x7f00bb (/v/lib/libggml-cpu.so.0) 20\n",
        MAIN.format(line=41) + "sample (/x/tui/pagewise/engine/decode.py:30) 20\n",
        "thread (8): commands;_read (/x/tui/pagewise/engine/channel.py:70);__read (/lib/libc.so.6) 100\n",
    ]
)
PROFILE = StackProfile(7, "engine", "py-spy", 100, 2.0, True, FOLDED, 3, 2.5, ("2 samples could not be read.",))


def root() -> Frame:
    return tree([stack for stack in parse_folded(FOLDED) if not stack.sleeps])


def test_stacks_become_a_tree() -> None:
    top = root()
    assert top.samples == 100
    thread = top.children()[0]
    assert short(thread.label) == "MainThread"
    run = thread.children()[0]
    assert (run.label, run.samples, len(run.callees)) == ("run (/x/tui/pagewise/engine/loop.py)", 100, 2)
    decode, sample = run.children()
    assert (decode.samples, sample.samples, sample.own) == (80, 20, 20)
    llama = decode.children()[0]
    assert short(llama.label) == "llama_decode" and llama.samples == 80
    compute, unnamed = llama.children()
    assert (compute.own, unnamed.own, short(unnamed.label)) == (60, 20, "[libggml-cpu.so.0]")


def test_a_thread_that_waits_for_work_sleeps() -> None:
    stacks = parse_folded(FOLDED)
    assert [stack.sleeps for stack in stacks] == [False, False, False, True]


@pytest.mark.parametrize(
    ("label", "library"),
    [
        ("f (/x/tui/pagewise/engine/loop.py:3)", "pagewise"),
        ("f (/v/lib/python3.11/site-packages/vllm/engine.py:3)", "vllm"),
        ("f (/v/lib/python3.11/site-packages/llama_cpp/llama.py:3)", "llama.cpp"),
        ("f (/usr/lib/python3.11/json/decoder.py:3)", "python"),
        ("llama_context::decode(llama_batch const&) (/v/lib/libllama.so)", "llama.cpp"),
        ("ggml_compute_forward (/v/lib/libggml-cpu.so.0)", "ggml"),
        ("mul_mat_q (/v/lib/libggml-cuda.so)", "CUDA"),
        ("cuLaunchKernel (/usr/lib/libcuda.so.1)", "CUDA"),
        ("_PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)", "python"),
        ("read (/usr/lib/x86_64-linux-gnu/libc.so.6)", "system"),
        ("entry ([kernel.kallsyms])", "system"),
        ("at::add (/v/lib/libtorch_cpu.so)", "torch_cpu"),
        ("thread (5): MainThread", "thread"),
    ],
)
def test_what_a_frame_belongs_to(label: str, library: str) -> None:
    assert library_of(label) == library


IN_ENGINE = "thread (7): MainThread;_Engine.{name} (/x/pagewise/engine/loop.py:86);"


def test_an_idle_engine_sleeps_and_a_busy_one_does_not() -> None:
    waits = "PyThread_acquire_lock_timed (/v/libpython3.11.so.1.0)"
    assert Stack(tuple((IN_ENGINE.format(name="next") + waits).split(";")), 1).sleeps
    assert not Stack(tuple((IN_ENGINE.format(name="serve") + waits).split(";")), 1).sleeps


def test_waiting_for_streamed_weights_is_no_sleep() -> None:
    decode = IN_ENGINE.format(name="serve") + "llama_decode (/v/libllama.so);_called (/x/engine/llamacpp/follow.py:83);"
    waits = "Condition.wait (/py/threading.py:320);PyThread_acquire_lock_timed (/v/libpython3.11.so.1.0)"
    for place in ("Streamer._wait_for (/x/placement/streamer.py:193)", "Experts.chosen (/x/placement/experts.py:281)"):
        assert not Stack((*decode.rstrip(";").split(";"), place, *waits.split(";")), 1).sleeps
    reader = "thread (9): reader 0;Readers._work (/x/placement/readers.py:120);" + waits
    assert Stack(tuple(reader.split(";")), 1).sleeps


@pytest.mark.parametrize("place", [*flame._SLEEPERS, *flame._WAITS_FOR_DISK])
def test_the_places_that_are_known_to_wait_are_there(place: tuple[str, str]) -> None:
    """A function of ours that has got another name would no longer be recognized."""
    name, file = place
    if "/" not in file:
        return
    tree_ = ast.parse((Path(pagewise.__file__).parent / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree_) if isinstance(node, ast.FunctionDef)}


def test_a_library_keeps_its_hue() -> None:
    own = {hue_of(name) for name in ("pagewise", "llama.cpp", "ggml", "CUDA", "python", "system")}
    assert len(own) == 6
    assert hue_of("torch_cpu") == "hue" + hue_of("torch_cpu")[3:] and hue_of("torch_cpu")[3:].isdigit()


def test_lines_of_a_function_are_one_frame() -> None:
    assert joined("f (a.py:3)") == joined("f (a.py:4)") == "f (a.py)"
    assert joined("operator new(unsigned long) (libstdc++.so.6)") == "operator new(unsigned long) (libstdc++.so.6)"


LABELS = st.sampled_from(["a (x.py:1)", "b (x.py:2)", "c (lib.so)", "é", "0x1 (l.so)"])
FOLDED_LINES = st.lists(st.tuples(st.lists(LABELS, min_size=1), st.integers(0, 500)), max_size=30)


@given(FOLDED_LINES, st.integers(1, 200))
def test_boxes_lie_inside_their_callers_and_apart(lines: list[tuple[list[str], int]], width: int) -> None:
    top = tree([Stack(tuple(frames), count) for frames, count in lines])
    boxes = layout(top, width)
    place = {id(box.frame): box for box in boxes}
    rows: dict[int, list[tuple[int, int]]] = {}
    for box in boxes:
        assert 0 <= box.start < box.end <= 8 * width
        assert abs((box.end - box.start) - 8 * width * box.frame.samples / top.samples) <= 1
        if box.frame.parent is not None:
            above = place[id(box.frame.parent)]
            assert above.start <= box.start and box.end <= above.end and box.row == above.row + 1
        for start, end in rows.setdefault(box.row, []):
            assert box.start >= end or box.end <= start
        rows[box.row].append((box.start, box.end))
    for row in rows:
        drawn = draw_row([box for box in boxes if box.row == row], width, None, None)
        assert width_of(drawn) == width


@given(st.text(max_size=400))
def test_any_text_is_a_graph_or_nothing(text: str) -> None:
    stacks = parse_folded(text)
    top = tree(stacks)
    assert top.samples == sum(stack.count for stack in stacks)
    for box in layout(top, 40):
        draw_row([box], 40, box.frame, None)
        describe(box.frame, top.samples, 100, 60)


def test_own_samples_add_up() -> None:
    top = root()
    assert sum(frame.own for frame in top.walk()) == top.samples == 100


def test_a_search_counts_nested_frames_once() -> None:
    top = tree(parse_folded("a;mul;x;mul 10\na;add 30\n"))
    found = matching(top, "MUL")
    assert [frame.samples for frame in found] == [10, 10]
    assert samples_of(found) == 10
    assert matching(top, "  ") == []


def test_the_trunk_ends_where_calls_part() -> None:
    assert short(trunk_end(root()).label) == "llama_decode"


def test_the_chosen_and_the_found_are_seen_without_colour() -> None:
    top = root()
    boxes = [box for box in layout(top, 60) if box.row == 1]
    assert plain(draw_row(boxes, 60, boxes[0].frame, None)).startswith("▸MainThread")
    assert all(role == "faint" or role.startswith("faint ") for _, role in draw_row(boxes, 60, None, set()))


def test_what_cannot_be_seen_is_said() -> None:
    words = plain(summary(PROFILE, parse_folded(FOLDED), True))
    assert "3 compute threads cannot be seen, which kept 2.5 cores busy" in words
    assert "50 % of the samples slept" in words and "could not be read" in words


def test_saved_files_hold_every_sample(tmp_path: Path) -> None:
    folded, scope = save_stacks(PROFILE, tmp_path / "new", time.gmtime(0))
    assert folded.read_text() == FOLDED
    assert folded.name == "engine-7-19700101-000000.folded"
    told = json.loads(scope.read_text())
    assert told == speedscope(PROFILE)
    assert told["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert [profile["name"] for profile in told["profiles"]] == ["thread (7): MainThread", "thread (8): commands"]
    assert sum(sum(profile["weights"]) for profile in told["profiles"]) == pytest.approx(2.0)
    frames = told["shared"]["frames"]
    assert {"name": "sample", "file": "/x/tui/pagewise/engine/decode.py", "line": 30} in frames
    for profile in told["profiles"]:
        assert all(0 <= index < len(frames) for sample in profile["samples"] for index in sample)


@pytest.mark.parametrize("accent", ["#56c8bd", "#0b6e66", "#ffff00", "bold cyan", "default"])
def test_hues_are_apart_and_as_bright_as_the_accent(accent: str) -> None:
    hues = [hue(accent, index) for index in range(HUES)]
    assert len(set(hues)) == HUES
    if accent.startswith("#"):
        wanted = luminance(accent)
        assert hues[0] == accent or abs(luminance(hues[0]) - wanted) < 0.02
        assert all(abs(luminance(other) - wanted) < 0.03 for other in hues)


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

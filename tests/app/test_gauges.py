from __future__ import annotations

import msgspec
import pytest

from app import scenes
from pagewise import messages
from pagewise.app.gauges import vram
from pagewise.app.gauges.column import GAUGES, draw_column
from pagewise.app.gauges.folded import draw_folded
from pagewise.app.gauges.strip import bar, braille, stacked
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, plain, width_of
from pagewise.readings import Devices, Missing

WIDTHS = (24, 45, 60)


def full(devices: Devices | None = None) -> Readout:
    readout = Readout()
    readout.take(messages.Loaded(1, scenes.LAPTOP, scenes.qwen(), "process", 2000.0))
    for wave in (0.0, 9e6, 60e6, 38e6):
        readout.take(messages.Reading(scenes.snapshot(devices=devices, page_in=wave)))
    readout.begin_turn(2)
    readout.take(messages.Layers(2, scenes.clock()))
    readout.take(messages.Finished(2, "end", scenes.timing()))
    readout.take(messages.Judged(2, scenes.VERDICT))
    return readout


def drawn(name: str, readout: Readout, width: int = 45, rows: int = 2) -> list[str]:
    [gauge] = [gauge for gauge in GAUGES if gauge.name == name]
    return [plain(line) for line in gauge.draw(readout, width, rows)]


def states() -> dict[str, Readout]:
    no_paging = Readout()
    no_paging.take(
        messages.Reading(
            msgspec.structs.replace(scenes.snapshot(), paging=None, residency=None, devices=scenes.no_gpu())
        )
    )
    return {"empty": Readout(), "full with GPU": full(scenes.gpu()), "full without": full(), "host only": no_paging}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("state", ["empty", "full with GPU", "full without", "host only"])
def test_no_gauge_is_wider_than_its_column(state: str, width: int) -> None:
    readout = states()[state]
    for gauge in GAUGES:
        for rows in range(5):
            lines = gauge.draw(readout, width, rows)
            assert lines
            assert all(width_of(line) <= width for line in lines), gauge.name
    for line in draw_folded(readout, width):
        assert width_of(line) <= width


@pytest.mark.parametrize("state", ["empty", "full with GPU", "full without", "host only"])
def test_every_gauge_explains_itself_in_every_state(state: str) -> None:
    for gauge in GAUGES:
        sentences = gauge.state(states()[state])
        assert sentences and all(sentences)
        assert gauge.what and gauge.unit and gauge.source and gauge.how


@pytest.mark.parametrize("height", [6, 18, 24, 36, 46])
def test_the_column_uses_its_height_and_begins_with_its_first_gauge(height: int) -> None:
    column = draw_column(full(scenes.gpu()), 45, height)
    poorest = draw_column(full(scenes.gpu()), 45, 0)
    assert len(column.lines) <= max(height, len(poorest.lines))
    for gauge, (top, length) in zip(GAUGES, column.places, strict=True):
        assert plain(column.lines[top]).startswith(gauge.name)
        assert length >= 1


def test_vram_tells_kinds_apart_without_colour() -> None:
    lines = drawn("VRAM", full(scenes.gpu()), rows=3)
    assert lines[0].endswith("6.1 / 8.0 GiB")
    assert "".join(lines[2:-1]).replace("  ", " ").startswith("█ weights 3.0 ▓ KV 0.4 ▒ compute 0.3")
    assert "other 2.0" in lines[-2] and lines[-1].startswith("busy 61 %")
    assert {"█", "▓", "▒", "░", "╌"} <= set(lines[1])


def h200(**changed: object) -> Devices:
    """A device that tells all, its clocks held back."""
    [device] = scenes.gpu().devices
    told = {
        "name": "NVIDIA H200", "power_w": 512.0, "power_limit_w": 700.0, "utilization_pct": 97.0,
        "sm_clock_mhz": 1410.0, "sm_clock_max_mhz": 1980.0, "memory_clock_mhz": 3201.0, "held_back": ("power limit",),
        "dram_bytes_s": 3.1e12, "dram_peak_bytes_s": 4.917e12,
        "pcie_rx_bytes_s": 1.23e9, "pcie_tx_bytes_s": 81e6, "pcie_peak_bytes_s": 63e9,
    }  # fmt: skip
    return Devices((msgspec.structs.replace(device, **{**told, **changed}),))


def test_vram_shows_what_the_device_does_as_far_as_there_is_room() -> None:
    work = ["busy 97 %  512 W  61 °C  DRAM 3.1 TB/s 63 %", "PCIe ↓1.2 GB/s ↑81 MB/s"]
    held = "▲ 1410 of 1980 MHz held back: power limit"
    assert drawn("VRAM", full(h200()), rows=4)[-3:] == [*work, held]
    assert drawn("VRAM", full(h200()), rows=2)[2:] == ["█ weights 3.0  ▓ KV 0.4  ▒ compute 0.3", work[0]]
    assert drawn("VRAM", full(h200()), rows=3)[3:] == ["░ driver 0.4  ▒ other 2.0", work[0]]
    assert len(drawn("VRAM", full(h200()), rows=1)) == 3
    assert drawn("VRAM", full(h200(held_back=())), rows=4)[-2:] == work


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_clocks_that_are_held_back_are_marked_where_there_is_no_room_for_the_reason(rows: int) -> None:
    assert "▲ held back" in drawn("VRAM", full(h200()), rows=rows)[0]
    assert "▲" not in drawn("VRAM", full(h200(held_back=())), rows=rows)[0]


def test_vram_of_an_older_device_tells_how_long_its_memory_was_busy() -> None:
    assert drawn("VRAM", full(scenes.gpu()), rows=3)[-1] == "busy 61 %  72 W  61 °C  mem busy 44 %"


def test_each_of_several_devices_says_what_it_does() -> None:
    [device] = h200().devices
    two = Devices((device, msgspec.structs.replace(device, index=1)))
    lines = drawn("VRAM", full(two), rows=4)
    assert sum(line.startswith("busy 97 %") for line in lines) == 2 and len(lines) == 10


def test_kinds_are_of_the_device_that_the_engine_names() -> None:
    [device] = h200().devices
    order = (msgspec.structs.replace(device, ggml="CUDA1"), msgspec.structs.replace(device, index=1, ggml="CUDA0"))
    readout = full(Devices(order))
    assert "weights" not in vram.kinds(readout, order[0]) and vram.kinds(readout, order[1])["weights"] > 0


def test_the_explanation_names_every_figure_and_a_reason_once() -> None:
    [gauge] = [gauge for gauge in GAUGES if gauge.name == "VRAM"]
    text = " ".join(gauge.state(full(h200())))
    for figure in ("97 %", "3.1 TB/s, 63 %", "1.2 GB/s to it", "63.0 GB/s each way", "512 W of 700 W", "61 °C"):
        assert figure in text
    assert "1410 of 1980 MHz, its memory at 3201 MHz" in text and "held back: power limit" in text
    lost = tuple(Missing(name, "It fell off the bus.") for name in ("power_w", "temperature_c"))
    text = " ".join(gauge.state(full(h200(power_w=None, temperature_c=None, missing=lost))))
    assert "power_w, temperature_c: n/a, It fell off the bus." in text


def test_without_a_gpu_the_reason_is_said() -> None:
    lines = drawn("VRAM", full())
    assert lines[0].endswith("none")
    assert "No GPU was found" in lines[1]


def test_a_device_that_says_nothing_is_not_zero() -> None:
    [device] = scenes.gpu().devices
    silent = msgspec.structs.replace(
        device, used_bytes=None, ours_bytes=None, missing=(Missing("used_bytes", "the driver refuses"),)
    )
    lines = drawn("VRAM", full(Devices((silent,))))
    assert lines[0].endswith("n/a") and "the driver refuses" in lines[1]


def test_model_file_has_one_cell_a_layer() -> None:
    lines = drawn("MODEL FILE", full(scenes.gpu()))
    assert lines[0].endswith("92 % in RAM")
    assert lines[1] == "■" * 8 + "◧◌□" + "■" + "G" * 18
    assert lines[2] == "■ RAM  ◧ partly  □ disk  ◌ reclaimed  G VRAM"


def test_many_layers_wrap() -> None:
    readout = Readout()
    readout.take(messages.Reading(scenes.snapshot(layers=120, cached=1.0)))
    lines = drawn("MODEL FILE", readout, rows=0)
    assert [len(line) for line in lines[1:]] == [45, 45, 32]


def test_page_in_marks_stalls_and_keeps_figures_in_place() -> None:
    [quiet] = [gauge for gauge in GAUGES if gauge.name == "PAGE-IN"]
    with_stalls, without = Readout(), Readout()
    with_stalls.take(messages.Reading(scenes.snapshot(page_in=38e6, stalls=412.0)))
    without.take(messages.Reading(scenes.snapshot(page_in=38e6, stalls=0.0)))
    one, two = (quiet.draw(readout, 45, 1)[0] for readout in (with_stalls, without))
    assert ("    412", "warn") in one and ("      0", "muted") in two
    assert plain(one).index("MB/s") == plain(two).index("MB/s")


def test_layers_show_time_as_height_and_the_device_as_a_gap() -> None:
    lines = drawn("LAYERS", full())
    assert lines[1] == "▁" + "▇" * 8 + "██" + "▇" + " " + "▁" * 17 + "▃"
    assert lines[2] == "CPU in–10 32.6 ms  CUDA0 11–out 9.70 ms"


@pytest.mark.parametrize(
    ("changes", "drawn_line", "said"),
    [
        ({}, None, "does not tell here"),
        ({"demand_bytes": (0,) * 30, "read_ahead_bytes": (0,) * 30}, None, "Nothing was read from disk for it."),
        (
            {"demand_bytes": (5 << 20, *[0] * 29), "read_ahead_bytes": (0,) * 30},
            "from disk demand 5.0 MiB",
            "5.0 MiB on demand, which the threads that compute waited for.",
        ),
        (
            {"demand_bytes": (0,) * 30, "read_ahead_bytes": (64 << 20, *[0] * 29)},
            "from disk demand 0 B  read ahead 64.0 MiB",
            "64.0 MiB ahead of them",
        ),
        ({"page_in_bytes": (3 << 20, *[0] * 29)}, "from disk 3.0 MiB, by whom is not known", "3.0 MiB of its layers"),
    ],
    ids=["not known", "nothing", "demand", "read ahead", "not told apart"],
)
def test_layers_tell_what_came_from_disk_and_who_read_it(
    changes: dict[str, object], drawn_line: str | None, said: str
) -> None:
    readout = full()
    readout.take(messages.Layers(2, msgspec.structs.replace(scenes.clock(), **changes)))
    lines = drawn("LAYERS", readout)
    assert [line for line in lines if line.startswith("from disk")] == ([drawn_line] if drawn_line else [])
    [gauge] = [gauge for gauge in GAUGES if gauge.name == "LAYERS"]
    assert said in gauge.state(readout)[-1]


def test_layers_are_warmer_where_they_are_slower() -> None:
    [gauge] = [gauge for gauge in GAUGES if gauge.name == "LAYERS"]
    roles = [role for _, role in gauge.draw(full(), 45, 1)[1]]
    assert roles[0] == "heat0" and "heat4" in roles


def test_timing_columns_are_right_aligned() -> None:
    lines = drawn("TIMING", full())
    ends = [lines[0].index("now") + 3, lines[0].index("p50") + 3, lines[0].index("p95") + 3]
    assert all(lines[row][end - 1] == "s" for row in (1, 2, 3) for end in ends)
    assert lines[1].split() == ["TTFT", "312", "ms", "312", "ms", "312", "ms"]


def test_context_warns_when_it_is_nearly_full() -> None:
    readout = full()
    readout.kv_used = 7_900
    [gauge] = [gauge for gauge in GAUGES if gauge.name == "CONTEXT"]
    roles = {role for line in gauge.draw(readout, 45, 2) for _, role in line}
    assert "warn" in roles
    assert any("nearly full" in sentence for sentence in gauge.state(readout))


def test_the_verdict_ends_with_what_to_do() -> None:
    lines = drawn("BOUND BY", full(), rows=4)
    assert lines[0] == "BOUND BY  RAM bandwidth"
    assert lines[-2].startswith("→ 4 more layers")


def test_text_from_outside_is_made_visible() -> None:
    [device] = scenes.gpu().devices
    named = msgspec.structs.replace(device, name="RTX\x1b[31m")
    assert "\x1b" not in "".join(drawn("VRAM", full(Devices((named,)))))


def test_folded_gauges_say_what_matters_most() -> None:
    first, second, third = (plain(line) for line in draw_folded(full(scenes.gpu()), 78))
    assert first.startswith("VRAM 6.1 / 8.0 GiB") and "page-in  38 MB/s" in first
    assert "TPOT 41.0 ms" in second
    assert third.startswith("bound by RAM bandwidth  → 4 more layers")


def cells(line: Line) -> str:
    return plain(line)


def test_bars_fill_in_eighths_and_show_a_trace() -> None:
    assert cells(bar(0.5, 8, "accent")) == "████╌╌╌╌"
    assert cells(bar(0.0, 4, "accent")) == "╌╌╌╌"
    assert cells(bar(0.001, 4, "accent"))[0] == "▏"
    assert cells(bar(1.5, 4, "accent")) == "████"


def test_stacked_parts_never_exceed_the_bar() -> None:
    assert cells(stacked([(0.5, "█", "accent"), (0.01, "▓", "accent"), (0.9, "▒", "muted")], 8)) == "████▓▒▒▒"


def test_braille_has_the_newest_at_the_right_and_tells_zero_from_unknown() -> None:
    assert braille([0.0, 1.0, 4.0, 4.0], 3, 1, 4.0) == ["⠀⣠⣿"]
    assert braille([None, None, 0.0, 0.0], 2, 1, 4.0) == ["⠀⣀"]
    assert braille([4.0, 4.0, 2.0, 2.0], 2, 2, 4.0) == ["⣿⠀", "⣿⣿"]

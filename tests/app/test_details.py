"""The page behind the verdict: timing, layers over tokens, experts."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from app import scenes
from pagewise import messages
from pagewise.app.profiler.details import SHADES, draw_details
from pagewise.app.readout import Readout
from pagewise.app.spans import plain, width_of
from pagewise.readings import TurnEnergy


@dataclass
class Page:
    lines: list[str]

    def row(self, begins: str) -> str:
        return next(line for line in self.lines if line.strip().startswith(begins))


def page(readout: Readout, width: int = 100) -> Page:
    lines = draw_details(readout, width)
    assert all(width_of(line) <= width for line in lines)
    return Page([plain(line) for line in lines])


def with_clocks(n: int, **changes: object) -> Readout:
    readout = Readout()
    for index in range(n):
        readout.take(messages.Layers(1, replace(scenes.clock(index), **changes)))
    return readout


def test_a_row_for_each_layer_and_a_cell_for_each_token() -> None:
    found = page(with_clocks(5))
    assert "5 probed tokens" in found.row("LAYERS")
    names = scenes.clock(0).names
    assert len(found.lines) >= len(names)
    assert sum(character in SHADES for character in found.row("in ")) == 5
    assert found.row("out").rstrip().endswith("CUDA0")


def test_only_as_many_tokens_as_fit() -> None:
    found = page(with_clocks(200), 60)
    assert sum(character in SHADES for character in found.row("in ")) == 60 - 8 - 20


def test_page_ins_of_layers_with_who_read_them() -> None:
    names = scenes.clock(0).names
    demand = tuple(4 * 1024**2 if name == "9" else 0 for name in names)
    ahead = tuple(8 * 1024**2 if name == "10" else 0 for name in names)
    both = tuple(map(sum, zip(demand, ahead, strict=True)))
    readout = with_clocks(3, page_in_bytes=both, demand_bytes=demand, read_ahead_bytes=ahead)
    readout.take(messages.Layers(1, replace(scenes.clock(3), page_in_bytes=())))
    found = page(readout)
    start = found.lines.index(found.row("PAGE-IN"))
    rows = {line.split()[0]: line for line in found.lines[start + 1 : start + 1 + len(names)]}
    assert "4 probed tokens" in found.lines[start]
    assert rows["9"][8:12] == "▒▒▒?" and rows["9"].endswith("4.0 MiB        0 B")
    assert rows["10"][8:12] == "███?" and rows["10"].endswith("0 B    8.0 MiB")
    assert rows["8"][8:12] == "   ?"


def test_page_ins_without_who_read_them_and_by_what_was_read_alone() -> None:
    names = scenes.clock(0).names
    came = tuple(4096 if name == "9" else 0 for name in names)
    blind = page(with_clocks(1, page_in_bytes=came))
    start = blind.lines.index(blind.row("PAGE-IN"))
    assert all(line.endswith("n/a        n/a") for line in blind.lines[start + 1 : start + 1 + len(names)])
    read = page(with_clocks(1, demand_bytes=came, read_ahead_bytes=(0,) * len(names)))
    assert "from 3 KiB on" in read.row("PAGE-IN")


def test_nothing_from_disk_is_no_map() -> None:
    names = scenes.clock(0).names
    nothing = (0,) * len(names)
    quiet = page(with_clocks(3, page_in_bytes=nothing, demand_bytes=nothing, read_ahead_bytes=nothing))
    assert not any("PAGE-IN" in line for line in quiet.lines)


def test_experts_by_how_often_they_were_chosen() -> None:
    names = scenes.clock(0).names
    experts = tuple(() if name in ("input", "output") else (0, 5) for name in names)
    found = page(with_clocks(4, experts=experts, n_expert=64))
    title = found.lines.index(found.row("EXPERTS"))
    row = found.lines[title + 1]
    assert row[8] == "█" and row[13] == "█" and row[9:13].isspace() and "2 of 64 used" in row
    narrow = page(with_clocks(4, experts=experts, n_expert=64), 50)
    assert "a cell" in narrow.row("EXPERTS")


def test_a_dense_model_has_no_map_of_experts() -> None:
    assert not any("EXPERTS" in line for line in page(with_clocks(3)).lines)


def test_the_parts_of_ttft() -> None:
    readout = Readout()
    readout.take(messages.Finished(1, "end", scenes.timing(40)))
    found = page(readout)
    timing = scenes.timing(40)
    for name in ("queue", "template", "prefill", "first sample"):
        assert found.row(name)
    assert f"{timing.prefill_ms:.0f} ms" in found.row("prefill")
    assert "p95" in found.row("time between tokens")


def test_the_roofline_counts_weights_and_kv() -> None:
    readout = with_clocks(1)
    readout.take(messages.Loaded(1, scenes.LAPTOP, scenes.qwen(), "live", 1.0))
    timing = scenes.timing(40)
    readout.take(messages.Finished(1, "end", timing))
    model = scenes.qwen()
    assert timing.depth is not None and timing.tpot_ms is not None
    kv = model.kv_bytes_per_token * ((timing.depth + timing.kv_used) // 2)
    speed = (model.bytes_per_token + kv) / timing.tpot_ms / 1e6
    assert f"{speed:.0f} GB/s" in page(readout).row("ROOFLINE") or f"{speed:.1f} GB/s" in page(readout).row("ROOFLINE")
    assert "CUDA0" in page(readout).row("last probed token")


def test_nothing_is_known_before_the_first_reply() -> None:
    text = "\n".join(page(Readout()).lines)
    assert "No reply has been judged" in text and "No token was probed" in text and "0 ms" not in text


def test_energy_of_a_token_with_where_it_comes_from() -> None:
    readout = Readout()
    readout.take(messages.Loaded(1, scenes.LAPTOP, scenes.qwen(), "process", 2000.0))
    counted = TurnEnergy(600.0, 4.0, 100, "energy counter")
    readout.take(messages.Judged(2, scenes.VERDICT, counted))
    assert "6.00 J/token  600 J in 4.00 s for 100 tokens" in page(readout, 160).row("ENERGY")
    assert "estimate" not in page(readout, 160).row("ENERGY")
    readout.take(messages.Judged(2, scenes.VERDICT, replace(counted, source="power × time")))
    assert "an estimate" in page(readout, 160).row("ENERGY")
    readout.take(messages.Judged(2, scenes.VERDICT, None, "the reply was too short"))
    assert page(readout, 160).row("ENERGY") == "ENERGY  n/a: the reply was too short"


def test_without_a_device_nothing_is_said_of_energy() -> None:
    readout = Readout()
    readout.take(messages.Loaded(1, scenes.LAPTOP, replace(scenes.qwen(), offloaded_layers=0), "process", 2000.0))
    readout.take(messages.Judged(2, scenes.VERDICT, None, "no device holds a part of the model"))
    assert not any(line.startswith("ENERGY") for line in page(readout).lines)

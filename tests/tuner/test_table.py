"""The time that a run on a recorded grid is said to take: as the real meter's, with its loads and warm-ups."""

from __future__ import annotations

import asyncio

import pytest
from tests.tuner.table import Cell, Grid, TableMeter

from pagewise.jobs.tune import Aim
from pagewise.settings import Profile

AIM = Aim("chat", n_prompt=128, n_output=24, depth=128)
FLASH = {"threads": 2, "flash_attention": "on"}
# 1 s to the first token, 0.1 s for each other: with 1 s for what stands before them 4.3 s a repetition.
CELLS = tuple(
    Cell({"threads": threads, "flash_attention": flash}, ((1000.0, 100.0),) * 2, 8.6)
    for threads in (1, 2)
    for flash in ("on", "off")
)


def meter(**load_seconds: float) -> TableMeter:
    return TableMeter(Grid("", "", 128, 24, 128, 2, 2, 1, 1, 1, True, {}, CELLS, load_seconds), 0)


def taking(table: TableMeter, *, thorough: bool = False, **keys: object) -> float:
    before = table.seconds
    profile = Profile(name="a", model="a.gguf", **{**FLASH, **keys})  # type: ignore[arg-type]
    asyncio.run(table.measure(profile, AIM, thorough))
    return table.seconds - before


def test_of_a_quick_measurement_only_the_output_is_shorter() -> None:
    table = meter()
    taking(table)
    assert taking(table, thorough=True) == pytest.approx(4.3)
    assert taking(table) == pytest.approx(4.3 - 16 * 0.1)
    assert taking(table, threads=1) == pytest.approx(4.3 - 16 * 0.1)


def test_a_change_that_is_not_live_takes_its_load_and_a_warm_up() -> None:
    table = meter(process=3.0, context=0.5)
    warm_up = 4.3 - 16 * 0.1 - 0.75
    assert taking(table, thorough=True) == pytest.approx(4.3 + 3.0 + warm_up)
    assert taking(table, thorough=True) == pytest.approx(4.3)
    assert taking(table, thorough=True, flash_attention="off") == pytest.approx(4.3 + 0.5 + warm_up)

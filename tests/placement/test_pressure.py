from __future__ import annotations

import time
from pathlib import Path

import pytest

from pagewise.placement.available import Account
from pagewise.placement.pressure import Pressure, stalled_us


class Box:
    """Files as the kernel shows them."""

    def __init__(self, folder: Path, limited: bool) -> None:
        self.proc = folder / "proc"
        self.group = folder / "group"
        (self.proc / "pressure").mkdir(parents=True)
        self.group.mkdir()
        self.show(0, 0)
        (self.group / "memory.max").write_text("1000000\n" if limited else "max\n")
        (self.group / "memory.current").write_text("1\n")
        self.pressure = Pressure((Account(self.group, "memory.max", "memory.current"),), self.proc)

    def show(self, stalled: int, refaulted: int, others: int = 0) -> None:
        text = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={stalled}\nfull avg10=0.00 total=0\n"
        (self.proc / "pressure/memory").write_text(text)
        (self.proc / "vmstat").write_text(f"nr_free_pages 7\nworkingset_refault_file {refaulted + others}\n")
        (self.group / "memory.stat").write_text(f"file 1\nworkingset_refault_file {refaulted}\n")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes between two looks."""
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))


def test_a_limited_group_is_short_by_either_sign(tmp_path: Path) -> None:
    box = Box(tmp_path, limited=True)
    assert not box.pressure.is_short()
    box.show(200_000, 0)
    assert box.pressure.is_short()
    box.show(200_000, 10_000)
    assert box.pressure.is_short()
    assert not box.pressure.is_short()


def test_without_a_limit_refaults_of_others_are_not_enough(tmp_path: Path) -> None:
    box = Box(tmp_path, limited=False)
    box.show(0, 0, others=100_000)
    assert not box.pressure.is_short()
    box.show(500_000, 0, others=200_000)
    assert box.pressure.is_short()


def test_a_kernel_that_does_not_say_is_never_short(tmp_path: Path) -> None:
    pressure = Pressure((), tmp_path)
    assert not pressure.is_short()


def test_a_pressure_file() -> None:
    assert stalled_us("some avg10=0.00 total=17\nfull total=3\n") == 17
    assert stalled_us("") is None
    assert stalled_us("some nonsense") is None

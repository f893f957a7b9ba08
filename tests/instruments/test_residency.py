"""Residency against other ways of asking the same kernel."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from tests.instruments.dropped_file import Toucher, make_dropped_file

from pagewise.instruments import pagecache
from pagewise.instruments.pagecache import PAGE, Cachestat, Mincore, Pagemap, PagemapScan, Way, choose
from pagewise.instruments.residency import ModelFile, ResidencyInstrument
from pagewise.models.layers import LayerRange
from pagewise.readings import LayerPlacement

MIB = 1 << 20
_PR_SET_DUMPABLE = 4
LAYERS = (
    LayerRange("input", MIB, ((4096, 4096 + MIB),)),
    LayerRange("0", 2 * MIB, ((2 * MIB, 4 * MIB),)),
    LayerRange("1", 2 * MIB, ((4 * MIB, 5 * MIB), (6 * MIB, 7 * MIB))),
    LayerRange("output", MIB, ((7 * MIB, 8 * MIB),)),
)


def placed(name: str, where: str) -> LayerPlacement:
    return LayerPlacement(name, "CPU" if where != "device" else "CUDA0", where, 0, 0, 0)  # type: ignore[arg-type]


def fincore(path: Path) -> int:
    if shutil.which("fincore") is None:
        pytest.skip("fincore (util-linux) is not here")
    printed = subprocess.run(["fincore", "-b", "-n", "-o", "RES", str(path)], capture_output=True, text=True)
    return int(printed.stdout)


def test_all_ways_agree_with_each_other_and_with_fincore(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "model", 16 * MIB)
    with Toucher(path, "random") as toucher:
        toucher.touch(4 * MIB, 6 * MIB)
        ways: list[Way] = [Cachestat(path), Mincore(path), Pagemap(toucher.pid, path)]
        try:
            ways.append(PagemapScan(toucher.pid, path))
        except OSError as error:
            print(f"PAGEMAP_SCAN is not there: {error}")
        resident = fincore(path)
        for way in ways:
            assert way.pages(0, 16 * MIB).present * PAGE == resident, way.name
            assert way.pages(5 * MIB, 9 * MIB).present * PAGE == MIB, way.name
            assert way.pages(8 * MIB, 16 * MIB).present == 0, way.name
            way.close()
    assert resident == 2 * MIB


def test_layers_and_file_of_a_partly_cached_model(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "model", 8 * MIB)
    with Toucher(path, "random") as toucher:
        toucher.touch(2 * MIB, 5 * MIB)
        instrument = ResidencyInstrument([ModelFile(path, LAYERS)], toucher.pid, budget_ms_per_s=1000.0)
        reading = instrument.sample()
        instrument.close()
        assert reading.file_cached_bytes == fincore(path)
    assert (reading.method, reading.meaning, reading.file_bytes) == ("cachestat", "cached", 8 * MIB)
    assert {layer.name: layer.cached_bytes for layer in reading.layers} == {
        "input": 0,
        "0": 2 * MIB,
        "1": MIB,
        "output": 0,
    }
    assert all(layer.where == "unknown" for layer in reading.layers)


def test_layers_that_live_elsewhere_have_no_value(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "model", 8 * MIB)
    placement = [placed("input", "mapped"), placed("0", "copied"), placed("1", "device"), placed("output", "mapped")]
    instrument = ResidencyInstrument([ModelFile(path, LAYERS)], None, placement)
    layers = {layer.name: layer for layer in instrument.sample().layers}
    instrument.close()
    assert layers["0"].cached_bytes is None and layers["0"].where == "copied"
    assert layers["1"].cached_bytes is None and layers["1"].device == "CUDA0"
    assert layers["input"].cached_bytes == 0 and layers["output"].reclaimed_bytes == 0


def test_two_files_of_one_model_are_added_up(tmp_path: Path) -> None:
    first = make_dropped_file(tmp_path / "model-1", 4 * MIB)
    second = make_dropped_file(tmp_path / "model-2", 4 * MIB)
    second.read_bytes()
    files = [
        ModelFile(first, (LayerRange("0", MIB, ((MIB, 2 * MIB),)),)),
        ModelFile(second, (LayerRange("0", MIB, ((MIB, 2 * MIB),)), LayerRange("1", MIB, ((2 * MIB, 3 * MIB),)))),
    ]
    instrument = ResidencyInstrument(files, None, budget_ms_per_s=1000.0)
    reading = instrument.sample()
    instrument.close()
    assert reading.file_bytes == 8 * MIB
    assert [(layer.name, layer.bytes) for layer in reading.layers] == [("0", 2 * MIB), ("1", MIB)]
    assert reading.layers[0].cached_bytes == MIB
    assert reading.file_cached_bytes == 4 * MIB


class Slow:
    """A way that costs 4 ms of CPU an answer, and counts what it was asked."""

    name = "slow"
    meaning = "cached"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def pages(self, start: int, end: int) -> pagecache.Pages:
        self.asked.append(start)
        until = time.thread_time_ns() + 4_000_000
        while time.thread_time_ns() < until:
            pass
        return pagecache.Pages((end - start) // PAGE, None)

    def close(self) -> None:
        return


def test_a_sample_keeps_to_its_budget_and_the_next_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes(64 * PAGE))
    layers = tuple(LayerRange(str(n), PAGE, ((n * PAGE, (n + 1) * PAGE),)) for n in range(64))
    way = Slow()
    monkeypatch.setattr("pagewise.instruments.residency.choose", lambda path, pid: (way, ()))
    instrument = ResidencyInstrument([ModelFile(path, layers)], None, budget_ms_per_s=10.0)
    first = instrument.sample()
    # The first may take what four seconds have.
    assert 2 <= len(way.asked) <= 12
    assert first.cost_ms < 60
    assert first.file_cached_bytes is None
    known = [layer for layer in first.layers if layer.cached_bytes is not None]
    assert [layer.name for layer in known] == [str(n) for n in range(len(way.asked))]
    seen = len(way.asked)
    # What is left of the budget is not enough for anything until time has passed.
    while len(way.asked) == seen:
        instrument.sample()
    assert way.asked[seen] == seen * PAGE
    assert len(way.asked) <= seen + 3


def test_another_budget_keeps_what_is_known(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "model", 8 * MIB)
    instrument = ResidencyInstrument([ModelFile(path, LAYERS)], None, budget_ms_per_s=1000.0)
    known = instrument.sample().file_cached_bytes
    assert known is not None
    instrument.budget_ms_per_s = 1e-6
    assert instrument.sample().file_cached_bytes is not None
    instrument.close()


def test_without_cachestat_the_next_way_is_named_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_dropped_file(tmp_path / "model", MIB)
    monkeypatch.setattr(pagecache, "_CACHESTAT", 100_000)
    way, refusals = choose(path, os.getpid())
    assert way is not None and way.name in ("pagemap scan", "mincore")
    assert refusals[0].metric == "cachestat" and "kernel" in refusals[0].why
    way.close()
    monkeypatch.setattr(pagecache, "_PAGEMAP_SCAN", 0xC0606611)
    way, refusals = choose(path, os.getpid())
    assert way is not None and way.name == "mincore"
    assert [refusal.metric for refusal in refusals] == ["cachestat", "pagemap scan"]
    way.close()


def test_a_file_of_somebody_else() -> None:
    """As another user cachestat and mincore are refused, and what the process has mapped is told instead."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        path = make_dropped_file(Path(folder) / "model", MIB)
        Path(folder).chmod(0o755)
        path.chmod(0o644)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            # A process that changed its user may not look at itself until it says that it may be looked at.
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
            way, refusals = choose(path, os.getpid())
            os.write(write_end, f"{way and way.name}|{refusals[0].why if refusals else ''}".encode())
            os._exit(0)
        os.close(write_end)
        name, _, why = os.read(read_end, 4096).decode().partition("|")
        os.close(read_end)
        os.waitpid(child, 0)
    assert name in ("pagemap scan", "pagemap")
    assert "somebody else" in why


def test_when_nothing_works_the_file_as_a_whole_is_what_the_process_has_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dropped_file(tmp_path / "model", 4 * MIB)
    monkeypatch.setattr("pagewise.instruments.residency.choose", lambda path, pid: (None, ()))
    with Toucher(path) as toucher:
        toucher.touch(0, 4 * MIB)
        instrument = ResidencyInstrument([ModelFile(path, LAYERS)], toucher.pid)
        reading = instrument.sample()
        instrument.close()
    assert (reading.method, reading.meaning) == ("RssFile", "mapped")
    assert reading.file_cached_bytes == 4 * MIB
    assert all(layer.cached_bytes is None for layer in reading.layers)

"""The reading of a model file, seen from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.instruments.dropped_file import Toucher, make_dropped_file

from pagewise.host.gauges import model_parts
from pagewise.host.read_progress import ReadProgress

MIB = 1 << 20


def test_it_goes_from_nothing_to_all(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "model.gguf", 32 * MIB)
    with Toucher(path, "random") as toucher:
        progress = ReadProgress(toucher.pid, path)
        assert progress.total_bytes == 32 * MIB
        assert progress.done_bytes() == 0
        toucher.touch(0, 16 * MIB)
        assert progress.done_bytes() == pytest.approx(16 * MIB, abs=64 * 1024)
        toucher.touch(16 * MIB, 32 * MIB)
        assert progress.done_bytes() == 32 * MIB
        progress.close()


def test_what_is_in_memory_already_counts(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "model.gguf", 8 * MIB)
    with Toucher(path) as toucher:
        toucher.touch(0, 8 * MIB)
        progress = ReadProgress(toucher.pid, path)
        assert progress.done_bytes() == 8 * MIB
        progress.close()


def test_all_parts_of_a_split_model(tmp_path: Path) -> None:
    paths = model_parts(tmp_path / "m-00001-of-00003.gguf")
    assert [path.name for path in paths] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for path in paths:
        path.write_bytes(bytes(MIB))
    with Toucher(paths[0]) as toucher:
        assert ReadProgress(toucher.pid, paths[0]).total_bytes == 3 * MIB


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        ReadProgress(1, tmp_path / "none.gguf")

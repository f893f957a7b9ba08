"""The peak of RAM: measured, kept, found again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pagewise.verdict import roofline
from pagewise.verdict.roofline import keep_peak, known_peak, measure


def test_more_than_a_byte_at_a_time_and_less_than_any_memory_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_LEAST_BYTES", 64 << 20)
    for threads in (1, 2):
        assert 0.5e9 < measure(threads) < 5e12


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pagewise.verdict.roofline", "1"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > 0.5e9


def test_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_available", lambda: 0)
    with pytest.raises(MemoryError):
        measure(1)


def test_kept_by_thread_count(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert known_peak(4, folder) is None
    keep_peak(4, 30e9, folder)
    keep_peak(8, 45e9, folder)
    assert (known_peak(4, folder), known_peak(8, folder), known_peak(2, folder)) == (30e9, 45e9, None)
    assert [entry.name for entry in folder.iterdir()] == ["roofline.json"]


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": "b"}', b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_as_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "roofline.json").write_bytes(text)
    assert known_peak(4, tmp_path) is None
    keep_peak(4, 30e9, tmp_path)
    assert known_peak(4, tmp_path) == 30e9


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    keep_peak(4, 30e9, file / "folder")
    assert known_peak(4, file / "folder") is None

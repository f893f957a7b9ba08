"""The peak of a disk: measured on a file that is really there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pagewise.verdict import disk_peak
from pagewise.verdict.disk_peak import BLOCK, NoPeak, keep_disk_peak, known_disk_peak, measure
from pagewise.verdict.roofline import keep_peak, known_peak


def written(path: Path, blocks: int) -> Path:
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(os.urandom(BLOCK))
        file.flush()
        os.fsync(file.fileno())
    return path


@pytest.fixture
def small_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_peak, "_LEAST_BYTES", BLOCK)


def test_every_byte_is_read_once_and_the_cache_is_left_alone(tmp_path: Path, small_is_enough: None) -> None:
    file = written(tmp_path / "file", 12)
    try:
        found = measure(file, seconds=30.0, threads=3)
    except NoPeak as error:
        pytest.skip(f"no direct reads here: {error}")
    assert found.bytes == 12 * BLOCK
    assert found.bytes_per_s == pytest.approx(found.bytes / found.seconds)


def test_it_ends_when_its_time_is_over(tmp_path: Path, small_is_enough: None) -> None:
    file = written(tmp_path / "file", 4)
    try:
        found = measure(file, seconds=0.0, threads=1)
    except NoPeak as error:
        pytest.skip(f"no direct reads here: {error}")
    assert found.bytes == 0


def test_what_would_measure_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoPeak, match="No such file"):
        measure(tmp_path / "none")
    with pytest.raises(NoPeak, match="smaller than"):
        measure(written(tmp_path / "little", 1))
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(NoPeak, match="sparse"):
        measure(sparse)
    monkeypatch.setattr(disk_peak, "_LEAST_BYTES", BLOCK)

    def refused(path: object, flags: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(disk_peak.os, "open", refused)
    with pytest.raises(NoPeak, match="takes no direct reads: Invalid argument"):
        measure(tmp_path / "little")


def test_a_read_that_fails_is_no_peak(tmp_path: Path, small_is_enough: None) -> None:
    descriptor = os.open(written(tmp_path / "file", 1), os.O_WRONLY)
    try:
        with pytest.raises(NoPeak, match="Bad file descriptor"):
            disk_peak._read(descriptor, 1, 1.0, 1)
    finally:
        os.close(descriptor)


def test_kept_beside_the_peaks_of_memory(tmp_path: Path) -> None:
    keep_peak(4, 30e9, tmp_path)
    keep_disk_peak("nvme0n1", 3e9, tmp_path)
    keep_disk_peak("sda", 0.5e9, tmp_path)
    assert (known_disk_peak("nvme0n1", tmp_path), known_disk_peak("sda", tmp_path)) == (3e9, 0.5e9)
    assert (known_disk_peak("sdb", tmp_path), known_peak(4, tmp_path)) == (None, 30e9)

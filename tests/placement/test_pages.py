from __future__ import annotations

import mmap
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewise.placement.file_system import not_steerable
from pagewise.placement.pages import GRANULE, PAGE, Mapped, MappedFile, parse_maps, parse_maps_by_path

MAPS = (
    "7f0000000000-7f0000004000 r--s 00000000 fe:00 42                         /models/a b.gguf\n"
    "7f0000010000-7f0000012000 r--s 00008000 fe:00 42                         /models/a b.gguf (deleted)\n"
    "7f0000020000-7f0000022000 r--s 00000000 fe:01 42                         /other\n"
    "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n"
)


def test_mappings_of_one_file_are_found() -> None:
    assert parse_maps(MAPS, (0xFE, 0), 42) == (
        Mapped(0x7F0000000000, 0, 0x4000),
        Mapped(0x7F0000010000, 0x8000, 0x2000),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_mapped_file_reads_the_same_after_it_was_dropped_and_read(tmp_path: Path) -> None:
    path = tmp_path / "data"
    content = bytes(range(256)) * 16 * 64
    path.write_bytes(content)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        file = MappedFile(path)
        file.rows_only(5, len(content) - 5)
        assert view[:] == content
        file.drop(0, len(content))
        file.read(4096, 3 * 4096)
        assert view[:] == content
        file.close()
        file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_file_that_is_not_mapped_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x")
    with pytest.raises(OSError, match="not mapped"):
        MappedFile(path)


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[tuple[MappedFile, mmap.mmap]]:
    """Five granules and a bit, on a file system that lets go of pages."""
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * (5 * GRANULE // 256) + b"end")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        os.fsync(stream.fileno())
        file = MappedFile(path, locks=True)
        file.steer()
        yield file, view
        file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_what_is_read_is_what_was_asked_for(mapped: tuple[MappedFile, mmap.mmap], tmp_path: Path) -> None:
    if not_steerable(tmp_path):
        pytest.skip("the temporary folder is on a file system that keeps its pages")
    file, view = mapped
    size = len(view)
    assert file.gives_back(0, size)
    file.read(3 * PAGE, 5 * PAGE)
    assert file.cached(0, size) == 2 * PAGE
    file.read(GRANULE, 2 * GRANULE)
    assert file.cached(0, size) == GRANULE + 2 * PAGE
    # An expert's slice: from within one granule to within another, with a whole one between.
    start, end = 3 * GRANULE - 5 * PAGE - 100, 4 * GRANULE + 2 * PAGE + 100
    file.read(start, end)
    assert file.cached(2 * GRANULE, size) == GRANULE + 9 * PAGE
    file.drop(start, end)
    assert file.cached(2 * GRANULE, size) == 2 * PAGE
    assert view[start:end] == (bytes(range(256)) * (GRANULE // 128))[start % 256 : start % 256 + end - start]


FEW = 16


def faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_majflt + usage.ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_granule_that_rows_share_with_others_still_comes_at_once(
    mapped: tuple[MappedFile, mmap.mmap], tmp_path: Path
) -> None:
    if not_steerable(tmp_path):
        pytest.skip("the temporary folder is on a file system that keeps its pages")
    file, _ = mapped
    assert file.gives_back(0, 5 * GRANULE)
    before = faults()
    file.read(4 * GRANULE, 5 * GRANULE)
    if faults() - before > FEW:
        pytest.skip("this kernel reads page by page")
    file.rows_only(0, 2 * GRANULE + 100 * PAGE)
    before = faults()
    file.read(2 * GRANULE, 3 * GRANULE)
    assert faults() - before <= FEW
    file.drop(3 * GRANULE, 4 * GRANULE)
    before = faults()
    file.read(3 * GRANULE, 4 * GRANULE)
    assert faults() - before <= FEW


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_one_granule_that_came_whole_is_proof_enough(mapped: tuple[MappedFile, mmap.mmap], tmp_path: Path) -> None:
    """Threads try side by side at first; one of them may meet a granule of which pages are there already."""
    if not_steerable(tmp_path):
        pytest.skip("the temporary folder is on a file system that keeps its pages")
    file, _ = mapped
    assert file.gives_back(0, 5 * GRANULE)
    before = faults()
    file.read(4 * GRANULE, 5 * GRANULE)
    if faults() - before > FEW:
        pytest.skip("this kernel reads page by page")
    # Faults page by page, as a thread finds it that began to try before the granule above had come.
    file.rows_only(0, GRANULE)
    file._try_granule(0)
    file.drop(0, 5 * GRANULE)
    before = faults()
    file.read(3 * GRANULE, 4 * GRANULE)
    assert faults() - before <= FEW


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_what_is_kept_is_locked_and_can_still_be_dropped(mapped: tuple[MappedFile, mmap.mmap], tmp_path: Path) -> None:
    if not_steerable(tmp_path):
        pytest.skip("the temporary folder is on a file system that keeps its pages")
    file, _ = mapped
    file.keep(0, GRANULE)
    if not file.locked:
        pytest.skip("the limit on locked memory is too low")
    locked = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck"))
    assert int(locked.split()[1]) * 1024 >= GRANULE
    assert file.gives_back(0, GRANULE)


def test_a_mapping_is_found_by_its_path_where_its_device_is_another() -> None:
    assert parse_maps_by_path(MAPS, Path("/models/a b.gguf")) == (Mapped(0x7F0000000000, 0, 0x4000),)

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from pagewise.placement.pages import Mapped, MappedFile, parse_maps

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

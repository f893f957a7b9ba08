"""Dropping a file from the page cache, held to what the kernel says of its pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pagewise.engine.llamacpp.pagein import cached_bytes
from pagewise.host.jobs.yardstick import drop_from_cache


def test_a_dropped_file_has_no_page_in_ram(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(8 << 20))
    try:
        before = cached_bytes(path)
    except OSError as error:
        pytest.skip(f"this kernel does not tell what it caches: {error}")
    drop_from_cache(path)
    assert before > 0
    assert cached_bytes(path) == 0

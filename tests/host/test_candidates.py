"""What tells one file that a tune may take from another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.synthetic import make_model

from pagewise.host.jobs.candidates import candidates
from pagewise.models.gguf import read_header
from pagewise.settings import Profile


def key_of(path: Path) -> str:
    job: Any = None
    (own,) = asyncio.run(candidates(Profile(name="a", model=str(path)), (), job))
    return own.file


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of one name and one size in two folders."""
    source = make_model()
    paths = tmp_path / "one" / "model.gguf", tmp_path / "other" / "model.gguf"
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(source.read_bytes())
    return paths


def test_a_file_that_was_moved_is_the_same(copied: tuple[Path, Path]) -> None:
    one, other = copied
    assert key_of(one) == key_of(other)


def test_a_fine_tune_of_the_same_name_and_size_is_another_file(copied: tuple[Path, Path]) -> None:
    one, other = copied
    data = bytearray(other.read_bytes())
    start = read_header(other).data_start
    data[start:] = bytes(byte ^ 1 for byte in data[start:])
    other.write_bytes(data)
    assert key_of(one) != key_of(other)


def test_other_metadata_make_another_file(copied: tuple[Path, Path]) -> None:
    one, other = copied
    data = other.read_bytes()
    assert data.count(b"synthetic llama") == 1
    other.write_bytes(data.replace(b"synthetic llama", b"synthetic camel"))
    assert key_of(one) != key_of(other)

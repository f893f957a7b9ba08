"""The model file changes on disk while it is loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model

from pagewise.messages import Notice
from pagewise.settings import Sampling

SHORT = Sampling(temperature=0.0, max_tokens=3)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(make_model(), tmp_path / "model.gguf"))


def notices(engine: EngineProcess) -> list[str]:
    return [event.failure.what for event in engine.seen if isinstance(event, Notice)]


def test_a_file_that_stays_as_it_is(engine: EngineProcess, copy: Path) -> None:
    engine.load(profile(copy))
    engine.generate("hello", SHORT)
    os.utime(copy, ns=(0, copy.stat().st_mtime_ns))
    engine.generate("hello", SHORT)
    assert not notices(engine)


def test_a_file_that_is_replaced_is_told_once_and_the_former_goes_on(engine: EngineProcess, copy: Path) -> None:
    engine.load(profile(copy))
    before = engine.generate("hello", SHORT)
    other = copy.with_name("other.gguf")
    shutil.copy(make_model(seed=8), other)
    other.replace(copy)
    for _ in range(2):
        assert engine.generate("hello", SHORT).ids == before.ids
    assert notices(engine) == ["model.gguf has been replaced by another file"]


def test_a_file_that_is_deleted(engine: EngineProcess, copy: Path) -> None:
    engine.load(profile(copy))
    copy.unlink()
    assert engine.generate("hello", SHORT).finished.reason == "length"
    assert notices(engine) == ["model.gguf has been deleted or moved"]


def test_a_file_that_is_written_to(engine: EngineProcess, copy: Path) -> None:
    engine.load(profile(copy))
    with copy.open("r+b") as file:
        file.seek(-16, 2)
        file.write(bytes(16))
    os.utime(copy)
    engine.generate("hello", SHORT)
    assert notices(engine) == ["model.gguf has been written to while it is in use"]


def test_a_file_that_is_cut_short_is_not_touched(engine: EngineProcess, copy: Path) -> None:
    engine.load(profile(copy))
    os.truncate(copy, copy.stat().st_size // 2)
    finished = engine.generate("hello", SHORT).finished
    assert finished.reason == "failed"
    assert finished.failure is not None and "cut short" in finished.failure.what
    assert engine.process.poll() is None

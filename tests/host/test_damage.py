"""A model file that cannot be read to its end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.host.talk import Talk
from tests.synthetic import make_model

from pagewise.client import HostClient
from pagewise.host.damage import find_damage, told
from pagewise.host.engine_exit import EngineExit, explain
from pagewise.messages import EngineLost, Finished, Loaded, Notice, Tokens
from pagewise.models.gguf import read_header
from pagewise.settings import Keep, Profile
from pagewise.trace import LastSeen, Trace, last_seen, trace_path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(make_model(n_layer=8, n_embd=512, n_ff=2048, n_head=8), tmp_path / "model.gguf"))


def test_a_whole_file_has_no_damage(model: Path) -> None:
    assert find_damage(model, threading.Event()) is None
    assert "can be read now" in told(None, model).what


def test_the_place_where_a_file_ends_is_named_with_its_tensor(model: Path) -> None:
    tensor = next(t for t in read_header(model).tensors if t.name == "blk.3.ffn_up.weight")
    os.truncate(model, tensor.start + 1000)
    damage = find_damage(model, threading.Event())
    assert damage is not None
    assert (damage.offset, damage.tensor) == (tensor.start + 1000, tensor.name)
    said = told(damage, model)
    assert f"{damage.offset:,}" in said.what and "layer 3" in said.what and said.next


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    damage = find_damage(tmp_path / "none.gguf", threading.Event())
    assert damage is not None and damage.why


@pytest.mark.parametrize(
    ("layer", "words"), [("12", "layer 12"), ("output", "the output"), ("?", "could not be read (")]
)
def test_the_layer_in_progress_is_named(layer: str, words: str) -> None:
    end = EngineExit(signal.SIGBUS, None, False, "", LastSeen("/m/a.gguf", layer))
    failure = explain(end, "while it wrote a reply", Path("/log"))
    assert "a.gguf" in failure.why and words in failure.why


def test_what_an_engine_was_at_outlives_it_once(tmp_path: Path) -> None:
    log = tmp_path / "engine-1.log"
    trace = Trace()
    trace.open(str(log))
    trace.model("/models/ä b.gguf")
    trace.layer("12")
    assert last_seen(log, os.getpid()) == LastSeen("/models/ä b.gguf", "12")
    assert last_seen(log, os.getpid()) is None
    trace.open(str(log))
    trace.close()
    assert not trace_path(log, os.getpid()).exists()
    Trace().layer("1")


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


@pytest.fixture
def size(model: Path) -> int:
    return model.stat().st_size


async def test_a_page_that_is_gone_ends_the_engine_and_is_found(real: Talk, model: Path, size: int) -> None:
    real.load(Profile(name="cut", model=str(model), n_ctx=4096, threads=1, placement=Keep("24MiB"), probe_every=0))
    await real.wait(Loaded)
    turn = real.ask(4000)
    await real.wait(Tokens)
    os.truncate(model, size // 2)
    finished = await real.wait(Finished)
    assert (finished.id, finished.reason) == (turn, "engine lost")
    assert finished.failure is not None
    lost = await real.wait(EngineLost)
    assert lost.signal == signal.SIGBUS
    assert "model.gguf" in lost.failure.why and "was computed" in lost.failure.why
    notice = await real.wait(Notice, lambda notice: "cannot be read from" in notice.failure.what)
    assert f"{size // 2:,}" in notice.failure.what

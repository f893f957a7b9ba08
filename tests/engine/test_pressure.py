"""Memory that goes away and comes back while a model runs, in a memory cgroup."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess, Reply, profile
from tests.memory_group import Group, can_make_groups, memory_group
from tests.synthetic import make_model

from pagewise.messages import Streamed
from pagewise.readings import Streaming
from pagewise.settings import Sampling

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not can_make_groups(), reason="needs a memory cgroup that may be written to"
)
SHORT = Sampling(temperature=0.0, max_tokens=12)
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def model() -> Path:
    return make_model(n_layer=12, n_embd=1024, n_ff=2816, n_head=8, n_head_kv=2, n_vocab=1024, weights="Q8_0")


@pytest.fixture
def group() -> Iterator[Group]:
    with memory_group() as group:
        yield group


@pytest.fixture
def limited(group: Group) -> Iterator[EngineProcess]:
    with EngineProcess() as engine:
        group.add(engine.process.pid)
        engine.hello()
        yield engine


def last(engine: EngineProcess) -> Streaming | None:
    told = [event.streaming for event in engine.seen if isinstance(event, Streamed)]
    return told[-1] if told else None


def generate_until(engine: EngineProcess, wanted: Callable[[Streaming], bool]) -> list[Reply]:
    """Replies until what is streamed is as wanted."""
    replies = []
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        replies.append(engine.generate("the sea", SHORT))
        now = last(engine)
        if now is not None and wanted(now):
            return replies
    raise AssertionError(f"it stayed as it was: {last(engine)}")


def test_a_limit_that_is_lowered_and_raised_while_it_runs(limited: EngineProcess, group: Group, model: Path) -> None:
    group.limit(4 << 30)
    loaded = limited.load(profile(model, n_ctx=512))
    size = loaded.model.file_bytes
    whole = limited.generate("the sea", SHORT)
    told = last(limited)
    assert told is None or told.streamed_bytes == 0

    group.limit(group.held + size * 2 // 3)
    low = generate_until(limited, lambda now: now.streamed_bytes > size // 5)
    assert all(reply.ids == whole.ids for reply in low)
    now = last(limited)
    assert now is not None
    assert now.kept_bytes + now.window_bytes <= now.room_bytes < size
    assert sum(layer.kept_bytes for layer in now.layers) == now.kept_bytes

    group.limit(4 << 30)
    high = generate_until(limited, lambda now: now.streamed_bytes == 0)
    assert all(reply.ids == whole.ids for reply in high)
    assert group.oom_kills() == 0


def test_a_load_that_does_not_fit_reads_no_more_than_it_needs(limited: EngineProcess, group: Group) -> None:
    large = make_model(n_layer=40, n_embd=1024, n_ff=2816, n_head=8, n_head_kv=2, n_vocab=1024, weights="Q8_0")
    size = large.stat().st_size
    group.limit(group.held + (360 << 20))
    loaded = limited.load(profile(large, n_ctx=256))
    assert any("read again for every token" in note for note in loaded.model.notes)
    reply = limited.generate("the sea", SHORT)
    assert len(reply.ids) == SHORT.max_tokens
    now = last(limited)
    assert now is not None and now.streamed_bytes > 0
    assert now.bandwidth_bytes_s
    assert group.peak() <= group.held + size


def test_another_process_takes_memory_in_mid_reply_and_gives_it_back(
    limited: EngineProcess, group: Group, model: Path
) -> None:
    loaded = limited.load(profile(model, n_ctx=512))
    size = loaded.model.file_bytes
    whole = limited.generate("the sea", SHORT)
    group.limit(group.held + size + (96 << 20))
    eater = (
        "import sys; held = bytearray(%d); held[::4096] = bytes(len(held[::4096])); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", eater % (size // 2 + (96 << 20))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        group.add(other.pid)
        other.stdout.readline()
        low = generate_until(limited, lambda now: now.streamed_bytes > size // 10)
        other.stdin.close()
        other.wait()
    high = generate_until(limited, lambda now: now.streamed_bytes == 0)
    assert all(reply.ids == whole.ids for reply in (*low, *high))
    assert group.oom_kills() == 0

"""Where a tune may begin, and what is said where it may not: models of any size that are holes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tests.host.talk import Talk
from tests.synthetic import Shape, make_hollow, make_model

from pagewise.client import HostClient
from pagewise.jobs.base import JobFailed
from pagewise.jobs.tune import Aim, TrialEnded, Tune
from pagewise.messages import Failure
from pagewise.settings import Profile

GIB = 1024**3
AIM = Aim(n_prompt=16, n_output=8, depth=0)
LARGE = Shape(
    n_layer=64, n_embd=8192, n_ff=28672, n_vocab=8000, n_head=64, n_head_kv=8, weights="Q8_0", n_ctx_train=1 << 20
)


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


@pytest.fixture
def huge(tmp_path: Path) -> Profile:
    """Twice as large as the memory of this machine."""
    layers = max(2, int(2 * psutil.virtual_memory().total / (0.85 * GIB)))
    path = make_hollow(tmp_path / "huge.gguf", LARGE, n_layer=layers)
    return Profile(name="huge", model=str(path), n_ctx=512)


async def refused(talk: Talk, profile: Profile, aim: Aim = AIM, *fixed: str) -> Failure:
    talk.send(Tune(7, profile, aim, fixed, fresh=True))
    return (await talk.wait(JobFailed)).failure


async def test_a_model_that_fits_in_no_way_says_what_would(real: Talk, huge: Profile) -> None:
    copied = Profile(name="huge", model=huge.model, n_ctx=512, load_mode="none")
    said = await refused(real, copied, AIM, "load_mode")
    assert "huge.gguf does not fit" in said.what
    assert "Fixed: load_mode" in said.why and "Streamed from disk" in said.next
    assert real.all(TrialEnded) == []


async def test_a_context_that_fits_in_no_way_says_which_one_would(real: Talk, tmp_path: Path) -> None:
    needed = int(4 * psutil.virtual_memory().total / (64 * 2 * 1024 * 2))
    path = make_hollow(tmp_path / "long.gguf", LARGE, n_ctx_train=max(needed, 1 << 20))
    said = await refused(real, Profile(name="long", model=str(path), n_ctx=min(needed, 1 << 20)))
    assert "does not fit" in said.what
    assert "A context of" in said.next and "is the largest that fits" in said.next


async def test_memory_to_leave_free_beyond_the_machine_names_both(real: Talk) -> None:
    plain = Profile(name="plain", model=str(make_model()), n_ctx=512)
    said = await refused(real, plain, Aim(n_prompt=16, n_output=8, depth=0, leave_free_bytes=1 << 49))
    assert "--leave and this machine contradict each other" in said.what
    assert "in all" in said.why

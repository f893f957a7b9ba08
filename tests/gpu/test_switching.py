"""Switches on a GPU: memory that comes back, a KV cache that goes over to another split, two models held at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.gpu.test_round import host, load, model, reply
from tests.synthetic import make_model

from pagewise.messages import Loaded
from pagewise.settings import Profile

pytestmark = pytest.mark.gpu
__all__ = ["model"]


@pytest.mark.parametrize("layers", [0, 12])
async def test_another_split_takes_the_conversation_along(model: Path, layers: int) -> None:
    async with host() as (client, events):
        profile = Profile(name="all", model=str(model), n_gpu_layers="all", n_ctx=2048, flash_attention="on")
        assert isinstance(await load(client, events, 1, profile), Loaded)
        await reply(client, events, 2)
        split = msgspec.structs.replace(profile, name="split", n_gpu_layers=layers)
        loaded = await load(client, events, 3, split)
        assert isinstance(loaded, Loaded), loaded
        print(f"{layers} layers: freed {loaded.free_ms:.0f} ms, waited {loaded.wait_ms:.0f} ms, class {loaded.change}")
        assert loaded.change == "model", "the device had its memory back"
        assert loaded.kv_carried > 40 and loaded.kv_note == ""
        await reply(client, events, 4)


async def test_a_kept_model_takes_over_at_once(model: Path) -> None:
    async with host() as (client, events):
        first = Profile(name="first", model=str(model), n_gpu_layers="all", n_ctx=2048, keep=True)
        assert isinstance(await load(client, events, 1, first), Loaded)
        before, _ = await reply(client, events, 2)
        other = Profile(name="other", model=str(make_model()), n_gpu_layers="all", n_ctx=512)
        loaded = await load(client, events, 3, other)
        assert isinstance(loaded, Loaded) and loaded.change == "process"
        await reply(client, events, 4)
        back = await load(client, events, 5, first)
        assert isinstance(back, Loaded) and back.change == "held"
        print(f"back in {back.total_ms:.1f} ms")
        after, _ = await reply(client, events, 6)
        assert after == before

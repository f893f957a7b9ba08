"""A conversation that goes from one engine process to the next, through the slot's memory file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.host.talk import PATIENCE_S
from tests.synthetic import make_model

from pagewise.host.main import ENGINE
from pagewise.host.outlet import Outlet
from pagewise.host.sampler import Sampler
from pagewise.host.slot import EngineSlot
from pagewise.messages import ChatMessage, Event, Finished, Generate
from pagewise.settings import Profile, Sampling


async def test_the_next_engine_takes_the_cache_up(own_folders: None, tmp_path: Path) -> None:
    finished: asyncio.Queue[Event] = asyncio.Queue()

    def hear(event: Event, _payload: bytes) -> None:
        if isinstance(event, Finished):
            finished.put_nowait(event)

    sampler = Sampler(lambda _snapshot: None, lambda _error: None, 0.0)
    slot = EngineSlot(
        ENGINE, tmp_path / "log", Outlet(lambda: None), sampler, lambda _data: None, hear, lambda _engine: None
    )
    plain = Profile(name="plain", model=str(make_model()), n_ctx=512, threads=1)
    try:
        await slot.start()
        assert slot.engine is not None
        first = slot.engine.pid
        await slot.load(1, plain, "process")
        slot.engine.send(Generate(2, (ChatMessage("user", "hello"),), Sampling(temperature=0.0, max_tokens=8)))
        event = await asyncio.wait_for(finished.get(), PATIENCE_S)
        assert isinstance(event, Finished) and event.timing is not None
        await slot.unload(3, plain)
        await slot.clear()
        await slot.start()
        loaded = await slot.load(4, plain, "process")
        assert slot.engine is not None and slot.engine.pid != first
        assert loaded.kv_carried == event.timing.kv_used
    finally:
        await slot.end()
        sampler.stop()

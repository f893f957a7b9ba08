"""The engine of the conversation as something that is lent to one job at a time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pagewise.failure import Failure
from pagewise.host.loads import Loads
from pagewise.host.slot import EngineDied


async def _settled() -> None:
    return


def _nothing(*_: object) -> None:
    return


async def test_one_that_stops_waiting_takes_nothing_from_the_one_who_has_it() -> None:
    slot: Any = SimpleNamespace(is_lent=False, engine=object(), death=None)
    told: list[EngineDied] = []
    turns: Any = SimpleNamespace(settled=_settled, proceed=_nothing, model=object(), lose=told.append)
    nothing: Any = None
    loads = Loads(slot, nothing, nothing, turns, _nothing, _nothing)

    async def wait() -> None:
        async with loads.lend(_nothing):
            raise AssertionError("somebody else has it")

    async with loads.lend(_nothing):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        # The engine has ended over a load of the one who has it, who will say so.
        slot.engine, slot.death = None, EngineDied(Failure("It ended", "For a reason.", "Wait."))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert slot.is_lent and not told
        slot.engine = object()
    assert not slot.is_lent
    while loads.busy:  # noqa: ASYNC110 - nobody says when the last one has left
        await asyncio.sleep(0)

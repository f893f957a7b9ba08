"""Stacks and operators asked of a host with a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.host.talk import Talk
from tests.synthetic import make_model

from pagewise.client import HostClient
from pagewise.messages import Finished, Loaded, Operators, ProfileOperators, ProfileStacks, Stacks, Stop, Tokens
from pagewise.settings import Profile


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


def plain() -> Profile:
    return Profile(name="plain", model=str(make_model()), n_ctx=4096, threads=1, probe_every=0)


async def test_without_an_engine_there_is_nothing_to_profile(talk: Talk) -> None:
    talk.send(ProfileStacks(1, None, 1.0))
    assert (found := await talk.wait(Stacks)).id == 1 and found.failure is not None and found.profile is None
    talk.send(ProfileOperators(2))
    assert (told := await talk.wait(Operators)).id == 2 and told.failure is not None


async def test_stacks_of_the_engine_while_it_writes(real: Talk) -> None:
    real.load(plain())
    await real.wait(Loaded)
    turn = real.ask(4000)
    await real.wait(Tokens)
    real.send(ProfileStacks(7, None, 1.0))
    real.send(ProfileStacks(8, None, 1.0))
    busy = await real.wait(Stacks)
    assert busy.id == 8 and busy.failure is not None and "already" in busy.failure.what
    found = await real.wait(Stacks)
    real.send(Stop(turn))
    assert found.id == 7
    if found.failure is not None:
        assert found.failure.next, "a refusal names what would work"
        return
    assert found.profile is not None and found.profile.tool == "py-spy"
    assert "turn.py" in found.profile.folded


async def test_operators_of_the_next_reply(real: Talk) -> None:
    real.load(plain())
    await real.wait(Loaded)
    real.send(ProfileOperators(3))
    real.ask(20)
    found = await real.wait(Operators)
    assert found.id == 3 and found.profile is not None and len(found.profile.nodes) > 20
    assert (await real.wait(Finished)).reason == "length"

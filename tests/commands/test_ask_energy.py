"""``ask --json`` waits for the energy of the reply where a device holds the model, and nowhere else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from app import scenes
from pagewise.commands.ask import _LOAD, _TURN, _Asking
from pagewise.messages import Finished, Judged, Loaded
from pagewise.readings import TurnEnergy


@pytest.mark.parametrize(("json", "offloaded", "waits"), [(True, 18, True), (True, 0, False), (False, 18, False)])
async def test_what_it_waits_for(monkeypatch: pytest.MonkeyPatch, json: bool, offloaded: int, waits: bool) -> None:
    asking = _Asking("Why?", scenes.LAPTOP, json)
    monkeypatch.setattr(asking._client, "send", lambda command: None)
    model = replace(scenes.qwen(), offloaded_layers=offloaded)
    assert not asking._over(Loaded(_LOAD, scenes.LAPTOP, model, "process", 1.0))
    assert asking._over(Finished(_TURN, "end", scenes.timing())) is not waits
    assert asking._answer("Because.", "end").joules_per_token is None
    assert asking._over(Judged(_TURN, scenes.VERDICT, TurnEnergy(600.0, 4.0, 100, "energy counter")))
    answer = asking._answer("Because.", "end")
    assert (answer.joules_per_token, answer.energy_source) == (6.0, "energy counter")


async def test_a_reply_that_was_not_timed_has_no_verdict_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = _Asking("Why?", scenes.LAPTOP, json=True)
    monkeypatch.setattr(asking._client, "send", lambda command: None)
    asking._over(Loaded(_LOAD, scenes.LAPTOP, scenes.qwen(), "process", 1.0))
    assert asking._over(Finished(_TURN, "failed", None))

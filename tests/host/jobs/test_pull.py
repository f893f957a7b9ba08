from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.talk import SCRIPTED, Talk, children, gone
from tests.models.hub.hub_server import Hub, serving

from pagewise.client import HostClient
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.pull import Pull, Pulled
from pagewise.messages import Stop

REPOSITORY = "someone/Model-GGUF"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {"m-Q4_K_M.gguf": b"GGUF" + bytes(400_000), "m-Q8_0.gguf": b"GGUF" + bytes(800_000)}
    with serving(Hub(REPOSITORY, files)) as hub:
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in hub.environment(str(tmp_path / "hf")).items():
            monkeypatch.setenv(name, value)
        yield hub


async def test_a_pull_tells_how_far_it_is_and_where_the_model_is(hub: Hub) -> None:
    async with Talk(HostClient(SCRIPTED)) as talk:
        talk.send(Pull(3, REPOSITORY, list_only=True))
        listed = (await talk.wait(Pulled)).brought
        assert listed.path is None and listed.offers.room is not None
        assert [(level.quant, level.fit != "unknown") for level in listed.offers.levels] == [
            ("Q4_K_M", True),
            ("Q8_0", True),
        ]
        talk.send(Pull(4, REPOSITORY, "Q4_K_M"))
        pulled = (await talk.wait(Pulled)).brought
        assert str(pulled.path).endswith("m-Q4_K_M.gguf") and pulled.verified == 1
        steps = [event for event in talk.all(JobProgress) if event.id == 4 and event.phase == "fetching"]
        assert steps and all(step.unit == "bytes" and step.total == 400_004 for step in steps)


async def test_a_cancel_ends_the_process_and_the_next_pull_goes_on_there(hub: Hub, tmp_path: Path) -> None:
    hub.faults.stall_after = [300_000]
    async with Talk(HostClient(SCRIPTED)) as talk:
        talk.send(Pull(3, REPOSITORY, "Q8_0"))
        await talk.wait(JobProgress, lambda event: event.phase == "fetching")
        host = talk.client.pid
        assert host is not None
        pids = children(host)
        talk.send(Stop(3))
        assert (await talk.wait(JobFailed)).cancelled
        await gone(*pids)
        kept = next((tmp_path / "hf").rglob("*.incomplete")).stat().st_size
        talk.send(Pull(4, REPOSITORY, "Q8_0"))
        pulled = (await talk.wait(Pulled)).brought
        assert kept > 0 and pulled.fetched_bytes == 800_004 - kept


async def test_a_refusal_is_the_jobs_failure(hub: Hub) -> None:
    hub.faults.status = 404
    async with Talk(HostClient(SCRIPTED)) as talk:
        talk.send(Pull(3, REPOSITORY, "Q8_0"))
        assert "no repository" in (await talk.wait(JobFailed)).failure.what

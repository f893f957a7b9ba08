from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.host.talk import SCRIPTED, Talk

from pagewise.client import HostClient


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and measured peaks of a test stay with the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("FAKE_ENGINE_DEAD", str(tmp_path / "dead"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
async def talk(own_folders: None) -> AsyncIterator[Talk]:
    """A host with scripted engines."""
    async with Talk(HostClient(SCRIPTED)) as conversation:
        yield conversation

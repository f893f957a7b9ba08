from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.host.talk import SCRIPTED, Talk, children, gone
from tests.models.catalog.models_on_disk import model, put

from pagewise.client import HostClient
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.catalog import FindModels, ModelsFound
from pagewise.messages import Stop


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PAGEWISE_MODELS", str(tmp_path / "models"))


async def test_the_host_finds_models_and_judges_what_fits(tmp_path: Path) -> None:
    put(tmp_path / "models/m.gguf", model())
    hollow = put(tmp_path / "models/huge.gguf", model("Huge"))
    with hollow.open("ab") as file:
        file.truncate(1 << 43)
    async with Talk(HostClient(SCRIPTED)) as talk:
        talk.send(FindModels(7))
        found = await talk.wait(ModelsFound)
        assert found.id == 7
        fits = {model.name: model.levels[0].fit for model in found.catalog.models}
        assert fits["Small Model"] in ("vram", "ram") and fits["Huge"] == "streams"
        room = found.catalog.room
        assert room is not None and 0 < room.ram_available_bytes <= room.ram_total_bytes
        talk.send(FindModels(8))
        assert (await talk.wait(ModelsFound)).catalog.read == 0


async def test_a_look_that_hangs_is_ended_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(
        "import os, sys, time\nif 'pagewise.models.catalog' in sys.orig_argv:\n    time.sleep(3600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    async with Talk(HostClient(SCRIPTED)) as talk:
        talk.send(FindModels(7))
        await talk.wait(JobProgress)
        host = talk.client.pid
        assert host is not None
        pids: list[int] = []
        while not pids:
            await asyncio.sleep(0.01)
            pids = children(host)
        talk.send(Stop(7))
        assert (await talk.wait(JobFailed)).cancelled
        await gone(*pids)


async def test_a_look_that_crashes_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(
        "import os, sys\nif 'pagewise.models.catalog' in sys.orig_argv:\n    os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    async with Talk(HostClient(SCRIPTED)) as talk:
        talk.send(FindModels(7))
        assert "signal 9" in (await talk.wait(JobFailed)).failure.why

"""Ctrl+O: the catalog, the hub, and paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app import scenes, scenes_catalog
from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from pagewise.app.screens import open_model
from pagewise.app.screens.chat import ChatScreen
from pagewise.app.screens.open_model import OpenModelScreen
from pagewise.failure import Failure
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.catalog import Catalog
from pagewise.jobs.pull import Brought, Pull, Pulled
from pagewise.messages import Load, Stop

DAY = 86_400.0


@pytest.fixture(autouse=True)
def at_a_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_model.time, "time", lambda: scenes_catalog.AT + 3 * DAY)


class Opened:
    """The screen on a stage, with the host that it asks."""

    def __init__(self, pilot: Pilot[None], client: FakeClient) -> None:
        self.pilot, self.client, self.app = pilot, client, pilot.app

    @property
    def rows(self) -> str:
        return text_of(self.app, "list")  # type: ignore[arg-type]

    @property
    def note(self) -> str:
        return text_of(self.app, "note")  # type: ignore[arg-type]

    @property
    def keys(self) -> str:
        return text_of(self.app, "keys")  # type: ignore[arg-type]

    async def type(self, text: str) -> None:
        self.app.screen.query_one(Input).value = text
        await self.pilot.pause()

    def pull(self) -> Pull:
        sent = self.client.last(Pull)
        assert isinstance(sent, Pull)
        return sent

    async def shows(self, words: str, where: str = "note") -> None:
        await until(self.pilot, lambda: words in getattr(self, where))


@asynccontextmanager
async def opened(catalog: Catalog, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Opened]:
    client = FakeClient()
    client.catalog = catalog
    async with staged(make_app(client), size) as pilot:
        await pilot.press("ctrl+o")
        assert isinstance(pilot.app.screen, OpenModelScreen)
        screen = Opened(pilot, client)
        await until(pilot, lambda: "Looking" not in screen.note)
        yield screen


@pytest.fixture
async def screen() -> AsyncIterator[Opened]:
    async with opened(scenes_catalog.catalog()) as one:
        yield one


def names(rows: str) -> list[str]:
    return [row[2:22].strip() for row in rows.splitlines() if row[2:22].strip()]


async def test_models_are_listed_with_their_levels_and_what_fits(screen: Opened) -> None:
    rows = screen.rows.splitlines()
    assert len(rows) == 6
    assert "▸ Meta Llama 3.3" in rows[0] and "70.6 B" in rows[0] and "streams from disk" in rows[0]
    assert "Qwen2.5-7B-Instruct" in rows[1] and "Q8_0" in rows[1] and "fits in RAM" in rows[1]
    assert "Qwen2.5" not in rows[2] and "Q6_K" in rows[2]
    assert "in use" in rows[3] and "Ollama" in rows[3]
    assert "fits in VRAM + RAM" in rows[5]


async def test_the_chosen_level_is_told_of(screen: Opened) -> None:
    assert "context 131 072 · 2 parts · 3 days ago" in screen.note
    await screen.pilot.press("down", "down", "down", "down")
    assert "▲ Its name says Q8_0" in screen.note
    await screen.pilot.press("down")
    assert "128 experts · 2 copies on disk" in screen.note


async def test_enter_opens_it_under_the_present_settings(screen: Opened) -> None:
    await screen.pilot.press("down", "down", "enter")
    await until(screen.pilot, lambda: isinstance(screen.app.screen, ChatScreen))
    load = screen.client.last(Load)
    assert isinstance(load, Load)
    assert load.profile.model == "/models/qwen/Qwen2.5-7B-Instruct-GGUF-Q6_K.gguf"
    assert (load.profile.name, load.profile.quant) == ("Qwen2.5-7B-Instruct-Q6_K", None)
    assert load.profile.n_ctx == scenes.LAPTOP.n_ctx


async def test_sorting_and_filtering(screen: Opened) -> None:
    await screen.pilot.press("ctrl+s")
    assert names(screen.rows)[:3] == ["Meta Llama 3.3 70B I", "Qwen3 30B A3B", "Qwen2.5-7B-Instruct"]
    assert "by date" in screen.keys
    await screen.pilot.press("ctrl+f")
    assert "Llama" not in screen.rows and "^F all" in screen.keys
    await screen.type("ollama q4")
    assert len(screen.rows.splitlines()) == 1 and "in use" in screen.rows
    await screen.type("nothing like it")
    assert "No model here holds these words" in screen.note


async def test_a_repository_is_looked_into_and_a_level_fetched_and_opened(screen: Opened) -> None:
    await screen.type("someone/Model-GGUF")
    assert "from the hub: someone/Model-GGUF" in screen.rows and "⏎ look" in screen.keys
    await screen.pilot.press("enter")
    asked = screen.pull()
    assert (asked.repository, asked.list_only) == ("someone/Model-GGUF", True)
    assert "Asking the hub" in screen.note
    screen.client.say(Pulled(asked.id, Brought(scenes_catalog.offers())))
    await screen.shows("BF16", "rows")
    assert "here already" in screen.rows and "2 parts" in screen.rows
    await screen.pilot.press("down", "down", "enter")
    asked = screen.pull()
    assert (asked.quant, asked.list_only) == ("Model-Q8_0.gguf", False)
    screen.client.say(JobProgress(asked.id, "fetching", 1 << 30, 8 << 30, "bytes", "Model-Q8_0.gguf"))
    await screen.shows("fetching · 12 % · 1.0 GiB of 8.0 GiB")
    brought = Brought(scenes_catalog.offers(), "/hub/q8.gguf", "Model-Q8_0.gguf", "Q8_0", 8 << 30, 8 << 30, 80.0, 1)
    screen.client.say(Pulled(asked.id, brought))
    await screen.shows("8.0 GiB fetched at 107 MB/s")
    await screen.pilot.press("enter")
    await until(screen.pilot, lambda: isinstance(screen.app.screen, ChatScreen))
    load = screen.client.last(Load)
    assert isinstance(load, Load) and load.profile.model == "/hub/q8.gguf"


async def test_escape_stops_a_fetch_before_it_closes_anything(screen: Opened) -> None:
    await screen.type("someone/Model-GGUF")
    await screen.pilot.press("enter")
    screen.client.say(Pulled(screen.pull().id, Brought(scenes_catalog.offers())))
    await screen.shows("BF16", "rows")
    await screen.pilot.press("enter")
    asked = screen.pull()
    await screen.pilot.press("escape")
    stop = screen.client.last(Stop)
    assert isinstance(stop, Stop) and stop.id == asked.id
    screen.client.say(JobFailed(asked.id, Failure("Stopped", "You stopped it.", "-"), cancelled=True))
    await screen.shows("What came is kept")
    await screen.pilot.press("escape")
    assert "Qwen3" in screen.rows
    await screen.pilot.press("escape")
    await until(screen.pilot, lambda: isinstance(screen.app.screen, ChatScreen))


async def test_what_the_hub_refuses_is_shown(screen: Opened) -> None:
    await screen.type("someone/Nothing")
    await screen.pilot.press("enter")
    failure = Failure("There is no repository someone/Nothing", "The hub answered 404.", "Check the spelling.")
    screen.client.say(JobFailed(screen.pull().id, failure))
    await screen.shows("▲ There is no repository someone/Nothing")


async def test_an_empty_machine_says_what_to_do() -> None:
    async with opened(scenes_catalog.empty(), (80, 24)) as screen:
        assert "There is no GGUF model on this machine yet." in screen.note
        assert "org/repo to fetch one" in screen.note and "Folders of your own" in screen.note


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 50)])
async def test_it_fits_every_size(size: tuple[int, int]) -> None:
    async with opened(scenes_catalog.catalog(), size) as screen:
        await screen.pilot.press("end", "down", "ctrl+s", "ctrl+f")
        assert "▸" in screen.rows
        await screen.type("/")
        assert screen.rows.strip()

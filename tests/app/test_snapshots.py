"""What each screen looks like, with fixed readings. After a wanted change: ``pytest --snapshot-update``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from textual.pilot import Pilot

from app import scenes, scenes_catalog
from app.fake_client import FakeClient
from app.stage import SIZES, make_app, text_of, until
from pagewise import messages
from pagewise.app.app import PagewiseApp
from pagewise.app.widgets.gauges import GaugeColumn
from pagewise.history.records import ConversationRow
from pagewise.messages import Load, ModelInfo
from pagewise.readings import Devices
from pagewise.settings import Profile

Scene = Callable[[Pilot[None]], Awaitable[None]]
Compare = Callable[..., bool]
NAMED = [pytest.param(size, id=f"{size[0]}x{size[1]}") for size in SIZES]
WAVE = (0.0, 0.0, 2e6, 9e6, 38e6, 60e6, 41e6, 12e6, 3e6, 38e6)


class Staged:
    """An app whose host says exactly what the scene says."""

    def __init__(self, model: ModelInfo, profile: Profile, devices: Devices | None, theme: str = "dark") -> None:
        self.client = FakeClient(model=model, manual=True, devices=devices)
        self.app: PagewiseApp = make_app(self.client, profile, theme=theme)
        self.devices = devices

    async def load(self, pilot: Pilot[None], done: bool = True) -> None:
        await until(pilot, lambda: any(isinstance(command, Load) for command in self.client.sent))
        load = self.client.last(Load)
        assert isinstance(load, Load)
        for page_in in WAVE:
            snapshot = scenes.snapshot(devices=self.devices, page_in=page_in, cached=0.92 if self.devices else 1.0)
            self.client.say(messages.Reading(snapshot))
        total = self.client.model.file_bytes
        self.client.say(messages.LoadProgress(load.id, "read", total // 3, total))
        if done:
            self.client.say(self.client.loaded(load))
            await until(pilot, lambda: self.app.session.model is not None)
        await self.settle(pilot)

    async def answer(self, pilot: Pilot[None], finished: bool = True) -> None:
        await self.load(pilot)
        self.app.session.submit(scenes.QUESTION)
        assert self.app.session.turn is not None
        turn = self.app.session.turn.id
        pieces = scenes.pieces(scenes.ANSWER)
        if not finished:
            pieces = pieces[: len(pieces) // 2]
        for index, piece in enumerate(pieces):
            gap = 312.0 if index == 0 else 41.0 + 3.0 * ((index * 7) % 5 - 2)
            self.client.say(messages.Tokens(turn, (index,), piece, index + 1, 265 + index, gap))
        self.client.say(messages.Layers(turn, scenes.clock()))
        if finished:
            self.client.say(messages.Finished(turn, "end", scenes.timing()), messages.Judged(turn, scenes.VERDICT))
            await until(pilot, lambda: self.app.session.readout.verdict is not None)
        else:
            await until(pilot, lambda: len(self.app.session.readout.gaps) == len(pieces) - 1)
        await self.settle(pilot)

    async def settle(self, pilot: Pilot[None]) -> None:
        """Until what is shown is what there is."""
        self.app._chat._draw_all()
        await pilot.pause()


def with_gpu(theme: str = "dark") -> Staged:
    return Staged(scenes.qwen(), scenes.LAPTOP, scenes.gpu(), theme)


def without_gpu() -> Staged:
    return Staged(scenes.guide_model(), scenes.GUIDE, None)


@pytest.mark.parametrize("size", NAMED)
def test_empty(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = without_gpu()
    assert snap_compare(stage.app, terminal_size=size, run_before=stage.load)


@pytest.mark.parametrize("size", NAMED)
def test_answered(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = with_gpu()
    assert snap_compare(stage.app, terminal_size=size, run_before=stage.answer)


@pytest.mark.parametrize("size", NAMED)
def test_streaming(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = with_gpu()

    async def half(pilot: Pilot[None]) -> None:
        await stage.answer(pilot, finished=False)

    assert snap_compare(stage.app, terminal_size=size, run_before=half)


@pytest.mark.parametrize("size", NAMED)
def test_loading(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = with_gpu()

    async def third(pilot: Pilot[None]) -> None:
        await stage.load(pilot, done=False)
        stage.app.session.submit(scenes.QUESTION)
        await stage.settle(pilot)

    assert snap_compare(stage.app, terminal_size=size, run_before=third)


@pytest.mark.parametrize("theme", ["light", "contrast", "terminal"])
def test_theme(snap_compare: Compare, theme: str) -> None:
    stage = with_gpu(theme)
    assert snap_compare(stage.app, terminal_size=(120, 40), run_before=stage.answer)


def test_engine_lost(snap_compare: Compare) -> None:
    stage = with_gpu()

    async def lost(pilot: Pilot[None]) -> None:
        await stage.answer(pilot, finished=False)
        assert stage.app.session.turn is not None
        stage.client.say(
            messages.Finished(stage.app.session.turn.id, "engine lost", None, scenes.LOST),
            messages.EngineLost(scenes.LOST, 9, None, False),
            messages.EngineStatus("starting"),
        )
        await until(pilot, lambda: stage.app.session.load is not None)
        await stage.settle(pilot)

    assert snap_compare(stage.app, terminal_size=(120, 40), run_before=lost)


@pytest.mark.parametrize("size", NAMED)
def test_profiles(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = without_gpu()

    async def chosen(pilot: Pilot[None]) -> None:
        await stage.load(pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "guide-q4" in text_of(stage.app, "list"))
        await pilot.press("home", "down", "down")
        await planned(pilot, 4)

    assert snap_compare(stage.app, terminal_size=size, run_before=chosen)


async def planned(pilot: Pilot[None], profiles: int) -> None:
    """Until each of so many profiles has its plan, and the levels of the models are known."""
    app = pilot.app
    assert isinstance(app, PagewiseApp)
    await until(pilot, lambda: text_of(app, "list").count("iB") >= profiles)
    await until(pilot, lambda: "needs" in text_of(app, "detail") or "then free" in text_of(app, "detail"))
    await until(pilot, lambda: "quant  " in text_of(app, "detail"))
    await pilot.pause()


@pytest.mark.parametrize("size", NAMED)
def test_profile_that_does_not_fit(snap_compare: Compare, size: tuple[int, int]) -> None:
    large = msgspec.structs.replace(scenes.LAPTOP, name="all-in", n_gpu_layers="all", n_ctx=65536)
    stage = Staged(scenes.qwen(), scenes.LAPTOP, scenes.gpu())
    stage.app.session.wanted = large

    async def chosen(pilot: Pilot[None]) -> None:
        await stage.load(pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "all-in" in text_of(stage.app, "list"))
        await planned(pilot, 5)

    assert snap_compare(stage.app, terminal_size=size, run_before=chosen)


@pytest.mark.parametrize("size", NAMED)
def test_profile_form(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = with_gpu()

    async def edited(pilot: Pilot[None]) -> None:
        await stage.load(pilot)
        await pilot.press("f2")
        await until(pilot, lambda: "gpu-full" in text_of(stage.app, "list"))
        await planned(pilot, 5)
        await pilot.press("home", "down", "e")
        await until(pilot, lambda: bool(stage.app.screen.query("#fields")))
        await pilot.press("down", "down", "backspace", "backspace", "backspace", "4", "x")
        await until(pilot, lambda: "then free" in text_of(stage.app, "detail"))
        await until(pilot, lambda: "being made" not in text_of(stage.app, "detail"))
        await pilot.pause()

    assert snap_compare(stage.app, terminal_size=size, run_before=edited)


def test_conversations(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = without_gpu()
    rows = [
        ConversationRow(1, "What is a KV cache?", "guide", 1_000_000.0, 1_000_000.0, 4),
        ConversationRow(2, "Why is my model slow when it does not fit?", "guide", 990_000.0, 996_000.0, 12),
        ConversationRow(3, "Which quant should I choose for 8 GB?", "guide", 500_000.0, 600_000.0, 2),
    ]
    monkeypatch.setattr(stage.app.session.journal, "conversations", lambda search="", limit=200: rows)
    monkeypatch.setattr("pagewise.app.screens.conversations.time.time", lambda: 1_000_060.0)

    async def opened(pilot: Pilot[None]) -> None:
        await stage.load(pilot)
        await pilot.press("f4")
        await until(pilot, lambda: "KV cache" in text_of(stage.app, "list"))
        await pilot.press("down", "ctrl+d")
        await pilot.pause()

    assert snap_compare(stage.app, terminal_size=(80, 24), run_before=opened)


@pytest.mark.parametrize("size", NAMED[:2])
def test_models(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    stage = with_gpu()
    monkeypatch.setattr("pagewise.app.screens.open_model.time.time", lambda: scenes_catalog.AT + 259_200.0)

    async def opened(pilot: Pilot[None]) -> None:
        await stage.answer(pilot)
        stage.client.catalog = scenes_catalog.catalog()
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "Qwen3" in text_of(stage.app, "list"))
        await pilot.press("down", "down")

    assert snap_compare(stage.app, terminal_size=size, run_before=opened)


@pytest.mark.parametrize("size", NAMED[:2])
def test_gauges(snap_compare: Compare, size: tuple[int, int]) -> None:
    stage = with_gpu()

    async def focused(pilot: Pilot[None]) -> None:
        await stage.answer(pilot)
        await pilot.press("f3", "down", "down", "down")
        stage.app.screen.query_one(GaugeColumn).repaint()
        await pilot.pause()

    assert snap_compare(stage.app, terminal_size=size, run_before=focused)


def test_explanation(snap_compare: Compare) -> None:
    stage = with_gpu()

    async def explained(pilot: Pilot[None]) -> None:
        await stage.answer(pilot)
        await pilot.press("f3", "question_mark")
        await pilot.pause()

    assert snap_compare(stage.app, terminal_size=(120, 40), run_before=explained)


def test_help(snap_compare: Compare) -> None:
    stage = without_gpu()

    async def helped(pilot: Pilot[None]) -> None:
        await stage.load(pilot)
        await pilot.press("f1")
        await pilot.pause()

    assert snap_compare(stage.app, terminal_size=(80, 24), run_before=helped)


def test_tiny(snap_compare: Compare) -> None:
    stage = with_gpu()
    assert snap_compare(stage.app, terminal_size=(40, 10), run_before=stage.answer)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.record import story
from textual.pilot import Pilot

from pagewise.app.app import PROFILE_KEY
from pagewise.app.entries import Question, Reply
from pagewise.app.replay_app import MonitorReplayApp, ReplayApp
from pagewise.app.screens.replay import Transport, clock, draw_transport
from pagewise.app.spans import plain
from pagewise.app.widgets.painted import Painted
from pagewise.app.widgets.prompt import Prompt
from pagewise.commands import replay
from pagewise.messages import Monitor
from pagewise.profiles.state import recall
from pagewise.record.format import RecordError
from pagewise.record.player import Player
from pagewise.record.reader import Record


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Record]:
    with Record(story.record(tmp_path / "a.pwr", story.chat())) as record:
        yield record


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Record]:
    with Record(story.record(tmp_path / "m.pwr", story.monitor(), "monitor")) as record:
        yield record


@asynccontextmanager
async def shown(app: ReplayApp | MonitorReplayApp, size: tuple[int, int]) -> AsyncIterator[Pilot[None]]:
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    end = asyncio.get_running_loop().time() + 10
    while not true():
        assert asyncio.get_running_loop().time() < end, "the condition did not come true"
        await asyncio.sleep(0.01)
    await pilot.pause()


def screen_text(app: ReplayApp | MonitorReplayApp) -> str:
    lines = []
    for widget in app.screen.query(Painted):
        if widget.display and widget.region.area:
            lines += [plain(line) for line in widget.paint(widget.content_size.width, widget.content_size.height)]
    return "\n".join(lines)


def counts(app: ReplayApp) -> tuple[int, int]:
    entries = app.session.entries
    return (
        sum(isinstance(entry, Question) for entry in entries),
        sum(isinstance(entry, Reply) and entry.ending == "end" for entry in entries),
    )


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_a_chat_is_shown_as_it_was_and_can_be_gone_through(chat: Record, size: tuple[int, int]) -> None:
    player = Player(chat, story.Clock())
    app = ReplayApp(player, theme="dark")
    async with shown(app, size) as pilot:
        await pilot.press("space")
        assert player.paused
        text = screen_text(app)
        assert f"{chat.path.name}: 2:01 of pagewise" in text and "No question was asked yet" in text
        assert "open a GGUF file" not in text, "what cannot be done here is not offered"
        for _ in range(7):
            await pilot.press("right")
        await until(pilot, lambda: counts(app) == (4, 3))
        assert app.session.turn is not None
        text = screen_text(app)
        for seen in ("Qwen", "w3 w4", "RAM bandwidth", "0:35 / 2:01", "‖ paused"):
            assert seen in text
        await pilot.press("shift+right")
        await until(pilot, lambda: counts(app) == (10, 9))
        await pilot.press("left")
        await until(pilot, lambda: counts(app) == (9, 9))
        await pilot.press("full_stop")
        assert player.position_ms > 90_000 and player.paused
        await pilot.press("home")
        await until(pilot, lambda: counts(app) == (0, 0) and app.session.model is None)
        await pilot.press("plus", "plus", "minus")
        assert player.speed == 2.0
        await pilot.press("space")
        assert not player.paused


async def test_nothing_can_be_asked_or_switched_and_nothing_is_kept(chat: Record) -> None:
    player = Player(chat, story.Clock())
    app = ReplayApp(player, theme="dark")
    async with shown(app, (120, 40)) as pilot:
        for _ in range(5):
            await pilot.press("shift+right")
        await until(pilot, lambda: player.at_end and counts(app) == (12, 12))
        entries = len(app.session.entries)
        await pilot.press("h", "i", "enter", "ctrl+r", "ctrl+n", "f2", "f4", "ctrl+o", "escape", "f1", "ctrl+p")
        assert app.screen.query_one(Prompt).text == ""
        assert len(app.screen_stack) == 1 and len(app.session.entries) == entries
        assert app.session.journal.conversations() == []
        await pilot.press("f3", "down", "escape", "left")
        await until(pilot, lambda: player.position_ms == chat.length_ms - 5000)
    assert recall(PROFILE_KEY) is None


async def test_a_cut_is_said_where_it_ends(chat: Record, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pwr"
    cut.write_bytes(chat.path.read_bytes()[:-4])
    with Record(cut) as record:
        player = Player(record, story.Clock())
        app = ReplayApp(player, theme="dark")
        async with shown(app, (80, 24)) as pilot:
            for _ in range(3):
                await pilot.press("shift+right")
            await until(pilot, lambda: player.at_end)
            assert "the record is cut in the middle: played up to the cut" in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_a_monitor_is_shown_as_it_was(monitor: Record, size: tuple[int, int]) -> None:
    player = Player(monitor, story.Clock())
    app = MonitorReplayApp(player, replay._wanted(monitor), theme="dark")
    async with shown(app, size) as pilot:
        await pilot.press("space", "right", "right")
        box = app._monitor.box
        await until(pilot, lambda: bool(box.watched) and len(box.watched[0].layers) == 11)
        text = screen_text(app)
        assert "Qwen3" in text and "2 models" in text and "0:10 / 0:19" in text
        await pilot.press("left")
        await until(pilot, lambda: len(box.watched[0].layers) == 6)


def test_what_the_monitor_was_asked_for_is_found(monitor: Record) -> None:
    assert replay._wanted(monitor) == Monitor(1.0)


def test_a_record_without_an_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="nothing to replay"):
        replay.run(story.record(tmp_path / "a.pwr", []), None)


@pytest.mark.parametrize("width", [5, 20, 40, 80, 200])
async def test_the_players_line_fits(chat: Record, width: int) -> None:
    player = Player(chat, story.Clock())
    for place in (0, 1, 50_000, 1e12):
        player.seek(place)
        assert len(plain(draw_transport(player, width))) <= width
    assert Transport(player).id == "transport"


def test_places_are_written_as_on_a_clock() -> None:
    assert [clock(ms) for ms in (0, 61_500, 3_661_000)] == ["0:00", "1:01", "1:01:01"]

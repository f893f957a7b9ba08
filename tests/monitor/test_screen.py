from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.monitor import samples
from tests.monitor.holder import held_by
from tests.synthetic import make_model
from textual.pilot import Pilot

from pagewise.app.monitor_app import MonitorApp
from pagewise.app.screens.monitor import MonitorScreen, ReasonsScreen
from pagewise.app.widgets.listing import Listing
from pagewise.messages import Command, Event, Failure, Monitor, Monitored, Notice
from pagewise.monitor.local import LocalMonitor


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("NO_COLOR", raising=False)


class Script:
    """A host that says what the test says."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def start(self) -> None:
        pass

    def send(self, command: Command) -> None:
        self.sent.append(command)

    def say(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        self._events.put_nowait(None)


def monitor(app: MonitorApp) -> MonitorScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, MonitorScreen)
    return screen


def shown(app: MonitorApp) -> list[str]:
    """What is on the screen, line by line."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    end = asyncio.get_running_loop().time() + 20
    while not true():
        assert asyncio.get_running_loop().time() < end, "the condition did not come true"
        await pilot.pause(0.02)
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_every_model_has_a_line_and_the_first_its_gauges(size: tuple[int, int]) -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=size) as pilot:
        client.say(Monitored(samples.sample()))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        lines = shown(app)
    text = "\n".join(lines)
    assert client.sent[0] == Monitor(0.5)
    assert lines[0].startswith(" pagewise monitor   3 models")
    assert "gpu01" in lines[0]
    assert "▸ llama-server" in lines[2]
    assert "Qwen3 30B A3B" in lines[2]
    assert "61.2 tok/s" in lines[2]
    assert "has ended" in lines[4]
    for title in ("MODEL FILE", "PAGE-IN", "RAM", "SERVER", "BOUND BY"):
        assert title in text
    assert ("LAYERS IN RAM" in text) == (size[0] >= 110)
    assert "\x1b" not in text


async def test_another_model_is_chosen_and_its_reasons_are_one_key_away() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(120, 40)) as pilot:
        client.say(Monitored(samples.sample()))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        await pilot.press("down", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, ReasonsScreen))
        await pilot.pause()
        text = "\n".join(shown(app))
        assert "NOT KNOWN" in text
        assert "mappings" in text
        assert "sudo pagewise monitor --pid 5230" in text
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen))


async def test_the_model_in_focus_stays_there_when_others_come_and_go() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(120, 40)) as pilot:
        client.say(Monitored(samples.sample()))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        await pilot.press("down")
        await until(pilot, lambda: monitor(app).query_one(Listing).chosen == 1)
        client.say(Monitored(samples.sample(samples.hidden())))
        await until(pilot, lambda: len(monitor(app).box.watched) == 1)
        focused = monitor(app).focused_model
        assert focused is not None
        assert focused.model is not None
        assert focused.model.pid == 5230


async def test_the_history_shows_each_layer_over_time() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(120, 40)) as pilot:
        for share in (0.0, 0.5, 1.0):
            client.say(Monitored(samples.sample(share=share)))
        await until(pilot, lambda: bool(monitor(app).box.watched) and len(monitor(app).box.watched[0].layers) == 3)
        rows = [line for line in shown(app) if line[60:].lstrip().startswith(("input", "output"))]
        lowest = [line for line in shown(app) if line.endswith("█")]
    assert rows[0].endswith(" ██")
    assert lowest[-1].endswith("  █")


async def test_no_model_says_what_to_do() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "Looking through the processes" in "\n".join(shown(app))
        empty = samples.sample(samples.busy())
        client.say(Monitored(type(empty)(**{**{f: getattr(empty, f) for f in empty.__struct_fields__}, "models": ()})))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        text = "\n".join(shown(app))
    assert "holds a GGUF model" in text
    assert "3 processes could not be looked into" in text


async def test_a_failure_to_sample_is_said_where_one_looks() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(80, 24)) as pilot:
        client.say(Notice(Failure("There is no process 7", "It has ended.", "Choose another.")))
        await until(pilot, lambda: "There is no process 7" in "\n".join(shown(app)))


async def test_leaving_ends_the_samples() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("escape")
        await pilot.pause()
    assert client.sent == [Monitor(0.5), Monitor(0.0)]


async def test_real_samples_arrive() -> None:
    with held_by("map", make_model()) as process:
        app = MonitorApp(LocalMonitor(), Monitor(0.1, process.pid), "dark")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: bool(monitor(app).box.watched) and len(monitor(app).box.watched[0].layers) > 2)
            text = "\n".join(shown(app))
    assert f"{process.pid}" in text
    assert "synthetic llama" in text

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.monitor import samples
from tests.monitor.holder import held_by
from tests.synthetic import make_model
from textual.pilot import Pilot

from pagewise.app.monitor.watched import ENDED_S
from pagewise.app.monitor_app import MonitorApp
from pagewise.app.screens.monitor import MonitorScreen, ReasonsScreen
from pagewise.app.widgets.listing import Listing
from pagewise.messages import Command, Event, Failure, Monitor, Monitored, Notice
from pagewise.monitor.local import LocalMonitor
from pagewise.readings import Devices, Missing


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
    assert lines[0].startswith(" pagewise monitor   2 models")
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
        await until(pilot, lambda: len(monitor(app).box.watched) == 2)
        focused = monitor(app).focused_model
        assert focused is not None
        assert focused.model is not None
        assert focused.model.pid == 5230


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_ends_in_focus_keeps_its_last_readings_for_a_while(size: tuple[int, int]) -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    gone = replace(samples.busy(), state="ended", models=(), residency=(), paging=None, server=None, verdict=None)
    async with app.run_test(size=size) as pilot:
        first = samples.sample(samples.busy(), samples.hidden())
        client.say(Monitored(first))
        client.say(Monitored(replace(samples.sample(samples.hidden(), gone), time_s=first.time_s + 1)))
        client.say(Monitored(replace(samples.sample(samples.hidden()), time_s=first.time_s + ENDED_S)))
        await until(pilot, lambda: monitor(app).box.sample is not None and len(monitor(app).box.watched) == 2)
        await until(pilot, lambda: "has ended" in "\n".join(shown(app)))
        lines = shown(app)
        assert "▸ llama-server    4121  Qwen3 30B A3B Q4_K_M  has ended" in lines[3]
        assert any("It has ended. These are its last readings." in line for line in lines)
        assert any("1.1 GB/s" in line for line in lines), "its page-in is still there"
        client.say(Monitored(replace(samples.sample(samples.hidden()), time_s=first.time_s + ENDED_S + 1)))
        await until(pilot, lambda: len(monitor(app).box.watched) == 1)


async def test_no_line_stays_empty_while_the_verdict_is_cut() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(80, 24)) as pilot:
        client.say(Monitored(samples.sample(samples.busy(), device=True)))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        text = "\n".join(shown(app))
    assert "9.8 ms of its 16.3 ms" in " ".join(text.split()), "why"
    assert "RAM are available to it." in " ".join(text.split()), "the advice"


async def test_where_there_is_room_a_device_tells_all_of_its_work() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    sample = samples.sample(samples.busy(), device=True)
    (device,) = sample.devices.devices
    told = replace(device, pcie_rx_bytes_s=1.2e9, pcie_tx_bytes_s=8e7, held_back=("power limit",), sm_clock_mhz=1410.0)
    async with app.run_test(size=(120, 40)) as pilot:
        client.say(Monitored(replace(sample, devices=Devices((told,)))))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        text = "\n".join(shown(app))
    assert "PCIe ↓1.2 GB/s" in text and "1410 MHz held back: power limit" in text


async def test_vram_takes_no_room_where_there_is_no_device() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(200, 50)) as pilot:
        client.say(Monitored(samples.sample()))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        assert "VRAM" not in shown(app)[2]
        client.say(Monitored(samples.sample(device=True)))
        await until(pilot, lambda: "VRAM  4.0 GiB" in shown(app)[2])


async def test_more_models_than_there_is_room_for_are_pointed_at() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    async with app.run_test(size=(80, 24)) as pilot:
        client.say(Monitored(samples.sample(*(replace(samples.hidden(), pid=100 + n) for n in range(20)))))
        await until(pilot, lambda: len(monitor(app).box.watched) == 20)
        rows = [line for line in shown(app) if "gemma" in line]
        assert rows[0][1] == "▸" and rows[-1][1] == "↓" and "↑" not in rows[0]
        await pilot.press("end")
        await pilot.pause()
        rows = [line for line in shown(app) if "gemma" in line]
        assert rows[0][1] == "↑" and rows[-1][1] == "▸" and "↓" not in rows[-1]


async def test_why_a_file_cannot_be_told_of_stands_in_its_place() -> None:
    client = Script()
    app = MonitorApp(client, Monitor(0.5), "dark")
    why = "/blobs/a may not be read by this user; root may: `sudo pagewise monitor`."
    async with app.run_test(size=(80, 24)) as pilot:
        one = replace(samples.hidden(), missing=(Missing("residency", why),))
        client.say(Monitored(samples.sample(one)))
        await until(pilot, lambda: monitor(app).box.sample is not None)
        text = "\n".join(shown(app))
    assert "may not be read by this user" in text and "no model file is mapped yet" not in text


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

"""Flame graph, operators and details on the screen, with a scripted host."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from app import scenes, scenes_profiler
from app.fake_client import FakeClient
from app.stage import make_app, screen_text, staged, text_of, until
from pagewise import messages
from pagewise.app.app import PagewiseApp
from pagewise.app.screens.chat import ChatScreen
from pagewise.app.screens.details import DetailsScreen
from pagewise.app.screens.flame import FlameScreen
from pagewise.app.screens.operators import OperatorsScreen
from pagewise.app.widgets.field import Field
from pagewise.app.widgets.flame import FlameGraph
from pagewise.messages import EngineLost, Failure, Operators, ProfileOperators, ProfileStacks, Stacks

REFUSED = Failure("The stacks cannot be read", "Only root may look.", "In another terminal: sudo py-spy record")


def asked(client: FakeClient, kind: type[messages.Command]) -> int:
    return sum(isinstance(command, kind) for command in client.sent)


def flat(text: str) -> str:
    """Without the ends of lines."""
    return " ".join(text.split())


async def flame(pilot: Pilot[None], app: PagewiseApp, client: FakeClient) -> FlameGraph:
    """The flame screen with a recording."""
    await pilot.press("f8")
    assert isinstance(app.screen, FlameScreen)
    await pilot.press("r")
    await until(pilot, lambda: asked(client, ProfileStacks) == 1)
    client.say(Stacks(1, scenes_profiler.STACKS))
    graph = app.screen.query_one(FlameGraph)
    await until(pilot, lambda: graph.chosen is not None)
    return graph


async def test_a_recording_begins_with_the_next_reply() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("f8")
        assert "as soon as a reply begins" in flat(screen_text(app))
        assert asked(client, ProfileStacks) == 0
        await pilot.press("escape")
        assert isinstance(app.screen, ChatScreen)
        await pilot.press("h", "i", "enter")
        await until(pilot, lambda: asked(client, ProfileStacks) == 1)
        command = client.last(ProfileStacks)
        assert isinstance(command, ProfileStacks) and command.pid is None and command.seconds == 5.0


async def test_a_reply_in_hand_is_recorded_at_once() -> None:
    client = FakeClient(endless=True, token_s=0.01)
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("h", "i", "enter")
        await until(pilot, lambda: app.session.turn is not None)
        await pilot.press("f8")
        assert asked(client, ProfileStacks) == 1
        assert "Recording the engine" in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 12)])
async def test_the_graph_and_its_words(size: tuple[int, int]) -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app, size) as pilot:
        await flame(pilot, app, client)
        text = screen_text(app)
        assert "MainThread" in text and "ggml_graph_compute" in text
        await pilot.press("home", "down", "down", "down")
        assert "decode" in text_of(app, "flame-note").splitlines()[0]
        assert "3.00 s" in text_of(app, "flame-note") and "75 %" in text_of(app, "flame-note")


async def test_zoom_and_back() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        graph = await flame(pilot, app, client)
        await pilot.press("home", "down", "down", "down", "right")
        assert graph.chosen is not None and graph.chosen.label.startswith("sample")
        await pilot.press("enter")
        assert graph.top is graph.chosen and "MainThread" not in text_of(app, "flame")
        await pilot.press("escape")
        assert graph.top is graph.root
        await pilot.press("escape")
        assert isinstance(app.screen, ChatScreen)


async def test_search_lights_up_and_counts() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        graph = await flame(pilot, app, client)
        await pilot.press("slash", *"ggml")
        assert "1 frame holds “ggml”, 75 % of all" in text_of(app, "flame-note")
        await pilot.press("enter")
        assert graph.chosen is not None and graph.chosen.label.startswith("ggml_graph_compute")
        await pilot.press("escape")
        assert app.screen.query_one(Field).value == "" and isinstance(app.screen, FlameScreen)


async def test_sleeping_threads_can_be_shown() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        graph = await flame(pilot, app, client)
        assert graph.root is not None and graph.root.samples == 400
        assert "20 % of the samples slept" in flat(text_of(app, "flame-note"))
        await pilot.press("i")
        assert graph.root.samples == 500


async def test_saving_says_where(own_folders: Path) -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await flame(pilot, app, client)
        await pilot.press("s")
        assert "Saved" in text_of(app, "flame-note")
        saved = sorted(path.suffix for path in (own_folders / "data" / "pagewise" / "stacks").iterdir())
        assert saved == [".folded", ".json"]


async def test_why_nothing_can_be_recorded() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app, (80, 24)) as pilot:
        await pilot.press("f8", "r")
        client.say(Stacks(1, None, REFUSED))
        await until(pilot, lambda: "sudo py-spy record" in flat(screen_text(app)))
        assert "Only root may look" in screen_text(app)


async def test_an_idle_process_is_said_to_be_idle() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("f8", "r")
        folded = scenes_profiler.STACKS.folded.splitlines()[-1] + "\n"
        idle = messages.StackProfile(1, "engine", "py-spy", 100, 5.0, True, folded, 0, 0.0)
        client.say(Stacks(1, idle))
        await until(pilot, lambda: "Every thread slept all the time" in flat(screen_text(app)))


async def test_operators_of_the_next_token() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app, (80, 24)) as pilot:
        await pilot.press("f7")
        assert isinstance(app.screen, OperatorsScreen)
        assert asked(client, ProfileOperators) == 1 and "No reply is being written" in screen_text(app)
        client.say(Operators(1, scenes_profiler.OPERATORS))
        await until(pilot, lambda: "matrix product" in text_of(app, "operators-list"))
        assert "2.00 times" in flat(text_of(app, "operators-note"))
        await pilot.press("right", "right", "tab")
        assert "by device" in text_of(app, "operators-head") and "bytes↓" in text_of(app, "operators-head")
        assert "CUDA0" in text_of(app, "operators-list")
        await pilot.press(*"q6")
        assert "CUDA0" not in text_of(app, "operators-list")
        await pilot.press("f7")
        assert asked(client, ProfileOperators) == 2
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, ChatScreen)


async def test_a_lost_engine_profiles_nothing() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("f7")
        client.say(EngineLost(REFUSED, 9, None, False))
        await until(pilot, lambda: "The engine ended" in text_of(app, "operators-note"))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_details_of_the_last_reply(size: tuple[int, int]) -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app, size) as pilot:
        await pilot.press("h", "i", "enter")
        await until(pilot, lambda: app.session.readout.verdict is not None)
        await pilot.press("f3", "end", "enter")
        assert isinstance(app.screen, DetailsScreen)
        seen = screen_text(app)
        for _ in range(8):
            await pilot.press("pagedown")
            seen += screen_text(app)
        for words in ("BOUND BY", "TTFT", "prefill", "p95", "LAYERS × TOKENS", *scenes.VERDICT.reasoning):
            assert words[:40] in seen
        await pilot.press("escape")


async def test_d_opens_details_from_any_gauge() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("f3", "d")
        assert isinstance(app.screen, DetailsScreen)
        assert "No reply has been judged" in screen_text(app)

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, screen_text, staged, text_of, until
from pagewise import messages
from pagewise.app.path_offers import offers, problem
from pagewise.app.screens.chat import ChatScreen
from pagewise.app.screens.conversations import ConversationsScreen
from pagewise.app.screens.open_model import OpenModelScreen
from pagewise.app.screens.profiles import ProfilesScreen
from pagewise.app.widgets.listing import Listing
from pagewise.app.widgets.prompt import Prompt
from pagewise.history.store import History
from pagewise.messages import Failure, Load
from pagewise.settings import Profile

BROKEN = Failure("The model cannot be loaded.", "It is truncated.", "Get the file again.")


async def open_profiles(pilot: Pilot[None]) -> ProfilesScreen:
    await pilot.press("f2")
    screen = pilot.app.screen
    assert isinstance(screen, ProfilesScreen)
    await until(pilot, lambda: bool(screen._shelf.files))
    return screen


def guide_on() -> tuple[FakeClient, Profile]:
    return FakeClient(model=scenes.guide_model()), scenes.GUIDE


async def test_profiles_say_what_each_would_change() -> None:
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app) as pilot:
        screen = await open_profiles(pilot)
        names = [profile.name for profile in screen._shelf.files]
        assert {"guide", "guide-q4", "laptop-cpu", "gpu-full"} <= set(names)
        await pilot.press("home", *["down"] * names.index("guide-q4"))
        await until(pilot, lambda: "Loads the weights again" in text_of(app, "detail"))
        assert "Q4_K_M" in text_of(app, "detail")


async def test_enter_switches_and_the_sheet_closes_when_it_is_done() -> None:
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app) as pilot:
        screen = await open_profiles(pilot)
        names = [profile.name for profile in screen._shelf.files]
        await pilot.press("home", *["down"] * names.index("guide-q4"), "enter")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.session.profile is not None and app.session.profile.name == "guide-q4"
        await until(pilot, lambda: "Now guide-q4" in text_of(app, "conversation"))


async def test_left_and_right_step_the_quant_of_the_guide() -> None:
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app) as pilot:
        screen = await open_profiles(pilot)
        names = [profile.name for profile in screen._shelf.files]
        await pilot.press("home", *["down"] * names.index("guide-q4"), "right")
        assert "[Q5_K_M]" in text_of(app, "detail")
        await pilot.press(*["left"] * 9)
        assert "[Q2_K]" in text_of(app, "detail")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        load = client.last(Load)
        assert isinstance(load, Load) and load.profile.quant == "Q2_K"


async def test_a_switch_that_fails_says_why_in_the_sheet() -> None:
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app) as pilot:
        screen = await open_profiles(pilot)
        names = [profile.name for profile in screen._shelf.files]
        client.manual = True
        await pilot.press("home", *["down"] * names.index("guide-q4"), "enter")
        load = client.last(Load)
        assert isinstance(load, Load)
        client.say(messages.LoadProgress(load.id, "weights", 5, 10))
        await until(pilot, lambda: "loading the weights" in text_of(app, "detail"))
        client.say(messages.LoadFailed(load.id, BROKEN, restored="guide"))
        await until(pilot, lambda: BROKEN.what in text_of(app, "detail"))
        assert "guide is in force again" in text_of(app, "detail").replace("\n", " ")
        assert app.screen is screen
        await pilot.press("escape")
        assert BROKEN.what in text_of(app, "conversation")


async def test_escape_cancels_a_switch_first() -> None:
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app) as pilot:
        screen = await open_profiles(pilot)
        names = [profile.name for profile in screen._shelf.files]
        client.manual = True
        await pilot.press("home", *["down"] * names.index("guide-q4"), "enter", "escape")
        assert app.screen is screen
        assert app.session.load is not None and app.session.load.cancelling
        client.say(messages.LoadFailed(app.session.load.id, BROKEN, cancelled=True, restored="guide"))
        await until(pilot, lambda: app.session.load is None)
        await pilot.press("escape")
        assert isinstance(app.screen, ChatScreen)


async def test_broken_profiles_are_listed_with_file_line_and_nearest_key(own_folders: Path) -> None:
    folder = own_folders / "config" / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('extends = "guide"\nn_gpu_layer = 3\n')
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app) as pilot:
        await open_profiles(pilot)
        await until(pilot, lambda: "1 profile cannot be used" in text_of(app, "detail"))
        shown = " ".join(text_of(app, "detail").split())
        assert "mine.toml" in shown and "n_gpu_layers" in shown and "2" in shown


async def stocked() -> tuple[History, list[int]]:
    history = History.in_memory()
    made = []
    for title in ("about caches", "about quants"):
        conversation = history.new_conversation("guide")
        history.add_user(conversation, title)
        reply = history.begin_reply(conversation, "guide", "guide")
        history.append(reply, f"an answer {title}", (1,))
        history.finish(reply, "end")
        made.append(conversation)
    return history, made


async def test_conversations_are_filtered_and_opened() -> None:
    history, (caches, _) = await stocked()
    app = make_app(FakeClient(), history=history)
    async with staged(app) as pilot:
        await pilot.press("f4")
        await until(pilot, lambda: "about quants" in text_of(app, "list"))
        await pilot.press(*"caches")
        await until(pilot, lambda: "about quants" not in text_of(app, "list"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.session.journal.conversation == caches
        await until(pilot, lambda: "an answer about caches" in text_of(app, "conversation"))


async def test_deleting_asks_first() -> None:
    history, (caches, quants) = await stocked()
    app = make_app(FakeClient(), history=history)
    async with staged(app) as pilot:
        await pilot.press("f4")
        await until(pilot, lambda: "about quants" in text_of(app, "list"))
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "for good?" in text_of(app, "note"))
        await pilot.press("down")
        assert len(history.conversations()) == 2
        await pilot.press("up", "ctrl+d", "ctrl+d")
        await until(pilot, lambda: [row.id for row in history.conversations()] == [caches])
        assert quants != caches


async def test_deleting_the_open_conversation_leaves_an_empty_one() -> None:
    history, (_, quants) = await stocked()
    app = make_app(FakeClient(), history=history, continue_last=True)
    async with staged(app) as pilot:
        await until(pilot, lambda: app.session.journal.conversation == quants)
        await pilot.press("f4")
        await until(pilot, lambda: "here" in text_of(app, "list"))
        await pilot.press("ctrl+d", "ctrl+d", "escape")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.session.entries == [] and app.session.journal.conversation is None


async def test_a_new_conversation_from_the_list() -> None:
    history, _ = await stocked()
    app = make_app(FakeClient(), history=history, continue_last=True)
    async with staged(app) as pilot:
        await until(pilot, lambda: bool(app.session.entries))
        await pilot.press("f4")
        assert isinstance(app.screen, ConversationsScreen)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.session.entries == []


def models(folder: Path) -> Path:
    (folder / "sub").mkdir()
    (folder / "good.gguf").write_bytes(b"GGUF" + bytes(40))
    (folder / "empty.gguf").write_bytes(b"")
    (folder / "other.gguf").write_bytes(b"not a model")
    (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    return folder


def test_what_is_wrong_with_a_path_is_said(tmp_path: Path) -> None:
    folder = models(tmp_path)
    assert problem(folder / "good.gguf") is None
    assert "empty" in str(problem(folder / "empty.gguf"))
    assert "not a GGUF" in str(problem(folder / "other.gguf"))
    assert "safetensors" in str(problem(folder / "model.safetensors"))
    assert "Hugging Face" in str(problem(folder))
    assert "no such file" in str(problem(folder / "nothing.gguf"))
    assert "without a GGUF" in str(problem(folder / "sub"))


def test_a_path_is_completed_by_folders_and_gguf_files(tmp_path: Path) -> None:
    folder = models(tmp_path)
    assert [path.name for path in offers(f"{folder}/")] == ["sub", "empty.gguf", "good.gguf", "other.gguf"]
    assert [path.name for path in offers(f"{folder}/go")] == ["good.gguf"]
    assert offers("/no/such/folder/x") == []


async def test_a_model_file_is_opened_by_its_path(tmp_path: Path) -> None:
    folder = models(tmp_path)
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, OpenModelScreen)
        field = app.screen.query_one(Input)
        field.value = str(folder / "other.gguf")
        await pilot.press("enter")
        await until(pilot, lambda: "not a GGUF" in text_of(app, "note"))
        field.value = f"{folder}/g"
        await pilot.press("tab")
        assert field.value == str(folder / "good.gguf")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        load = client.last(Load)
        assert isinstance(load, Load)
        assert load.profile.model == str(folder / "good.gguf") and load.profile.quant is None
        assert load.profile.n_ctx == scenes.LAPTOP.n_ctx


@pytest.mark.parametrize("key", ["f1", "f2", "f3", "f4", "ctrl+o"])
@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 50)])
async def test_every_sheet_opens_and_closes_at_every_size(key: str, size: tuple[int, int]) -> None:
    app = make_app(FakeClient(readings_hz=5))
    async with staged(app, size) as pilot:
        await pilot.press(key)
        await pilot.pause()
        assert screen_text(app).strip()
        await pilot.press("escape")
        assert isinstance(app.screen, ChatScreen)
        assert isinstance(app.focused, Prompt)


async def test_a_list_scrolls_with_its_choice() -> None:
    profiles = [msgspec.structs.replace(scenes.LAPTOP, name=f"profile-{number}") for number in range(60)]
    client, profile = guide_on()
    app = make_app(client, profile)
    async with staged(app, (80, 24)) as pilot:
        screen = await open_profiles(pilot)
        screen._shelf.files = profiles
        screen._rows()
        await pilot.press("end")
        await until(pilot, lambda: "▸ profile-59" in text_of(app, "list"))
        assert screen.query_one(Listing).chosen == 59

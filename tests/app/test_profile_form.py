from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from app.test_sheets import open_profiles
from pagewise.app.app import PagewiseApp
from pagewise.app.profiles.form import FormRows, entries
from pagewise.app.screens.chat import ChatScreen
from pagewise.app.screens.profile_form import FormScreen
from pagewise.app.screens.profile_name import NameScreen
from pagewise.app.screens.profiles import ProfilesScreen
from pagewise.profiles.fields import Field, fields
from pagewise.profiles.files import resolve

BASE = '# the good one\nmodel = "/models/qwen2.5-7b-q4_k_m.gguf"\nn_gpu_layers = 18 # of 29\nn_ctx = 8192\n'


@pytest.fixture(autouse=True)
def folder(own_folders: Path) -> Path:
    folder = own_folders / "config" / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    (folder / "base.toml").write_text(BASE)
    (folder / "long.toml").write_text('extends = "base"\nn_ctx = 32768\n')
    return folder


def started() -> tuple[FakeClient, PagewiseApp]:
    client = FakeClient(devices=scenes.gpu())
    return client, make_app(client, resolve("base"))


async def open_form(pilot: Pilot[None], name: str) -> FormScreen:
    screen = await open_profiles(pilot)
    names = [profile.name for profile in screen._shelf.files]
    await pilot.press("home", *["down"] * names.index(name), "e")
    await until(pilot, lambda: isinstance(pilot.app.screen, FormScreen) and pilot.app.screen.is_mounted)
    form = pilot.app.screen
    assert isinstance(form, FormScreen)
    return form


async def go_to(pilot: Pilot[None], key: str) -> None:
    form = pilot.app.screen
    assert isinstance(form, FormScreen)
    at = next(at for at, entry in enumerate(form._entries) if isinstance(entry, Field) and entry.key == key)
    form.query_one(FormRows).move(at - form.query_one(FormRows).chosen)
    await pilot.pause()
    assert form._field.key == key


async def test_the_form_has_every_key_with_its_cost_meaning_and_origin() -> None:
    _, app = started()
    async with staged(app, (120, 80)) as pilot:
        await open_form(pilot, "long")
        shown = text_of(app, "fields")
        for field in fields():
            assert field.key in shown
        for heading in ("MODEL  loads the weights again", "CONTEXT  makes a new context", "LIVE  takes effect"):
            assert heading in shown
        assert "from base" in shown and "own" in shown and "default" in shown
        await go_to(pilot, "n_ctx")
        assert "Tokens of context" in text_of(app, "detail") and "0 to 16 777 216" in text_of(app, "detail")


async def test_the_plan_follows_what_is_typed() -> None:
    client, app = started()
    async with staged(app) as pilot:
        await open_form(pilot, "base")
        await go_to(pilot, "n_ctx")
        await until(pilot, lambda: "ctx 8 192" in text_of(app, "detail"))
        await pilot.press("backspace", "backspace", "backspace", "backspace", "4", "0", "9", "6")
        await until(pilot, lambda: "ctx 4 096" in text_of(app, "detail"))
        assert [profile.n_ctx for profile in client.planned if profile.n_ctx in (4, 40, 409)] == []
        assert "was 8192" in text_of(app, "fields")
        assert "Makes a new context" in text_of(app, "detail")


async def test_a_wrong_value_is_said_as_one_types_and_is_not_saved(folder: Path) -> None:
    _, app = started()
    async with staged(app) as pilot:
        form = await open_form(pilot, "base")
        await go_to(pilot, "n_gpu_layers")
        await pilot.press("x")
        assert "not the text" in " ".join(text_of(app, "detail").split())
        assert "not in effect" in text_of(app, "fields")
        await go_to(pilot, "n_batch")
        await pilot.press("ctrl+s")
        assert app.screen is form and form._field.key == "n_gpu_layers"
        assert (folder / "base.toml").read_text() == BASE
        await pilot.press("backspace", "backspace", "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, ProfilesScreen))
        assert (folder / "base.toml").read_text() == BASE.replace("18", "1")


async def test_left_and_right_step_through_few_values(folder: Path) -> None:
    _, app = started()
    async with staged(app) as pilot:
        form = await open_form(pilot, "base")
        await go_to(pilot, "cache_type_k")
        await pilot.press("right", "right")
        assert "‹ q8_0 ›" in text_of(app, "fields")
        await pilot.press("left", "i")
        assert "‹ iq4_nl ›" in text_of(app, "fields")
        await pilot.press("ctrl+r")
        assert "‹ f16 ›" in text_of(app, "fields") and not form._draft.changed


async def test_a_shipped_profile_is_saved_under_another_name(folder: Path) -> None:
    _, app = started()
    async with staged(app) as pilot:
        await open_form(pilot, "laptop-cpu")
        await go_to(pilot, "n_batch")
        await pilot.press("0", "ctrl+s")
        assert isinstance(app.screen, NameScreen)
        field = app.screen.query_one(Input)
        assert field.value == "laptop-cpu-mine"
        field.value = "base"
        await until(pilot, lambda: "already" in text_of(app, "note"))
        await pilot.press("enter")
        assert isinstance(app.screen, NameScreen)
        field.value = "mine"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ProfilesScreen) and "▸ mine" in text_of(app, "list"))
        assert "n_batch = 5120" in (folder / "mine.toml").read_text()
        assert "saved" in text_of(app, "detail")


async def test_changes_are_not_dropped_by_one_escape() -> None:
    _, app = started()
    async with staged(app) as pilot:
        form = await open_form(pilot, "base")
        await go_to(pilot, "n_batch")
        await pilot.press("0", "escape")
        assert app.screen is form and "not saved" in text_of(app, "detail")
        await pilot.press("down")
        assert "not saved" not in text_of(app, "detail")
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, ProfilesScreen)


async def test_what_is_unsaved_can_be_tried(folder: Path) -> None:
    _, app = started()
    async with staged(app) as pilot:
        await open_form(pilot, "base")
        await go_to(pilot, "n_gpu_layers")
        await pilot.press("backspace", "f6")
        assert isinstance(app.screen, ProfilesScreen)
        assert "Not saved" in text_of(app, "detail")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.session.profile is not None and app.session.profile.n_gpu_layers == 1
        assert (folder / "base.toml").read_text() == BASE


async def test_what_would_fit_is_taken_with_one_key() -> None:
    _, app = started()
    async with staged(app) as pilot:
        await open_form(pilot, "base")
        await go_to(pilot, "n_ctx")
        await pilot.press("1", "f6")
        await until(pilot, lambda: "does not fit" in text_of(app, "detail"))
        assert "F what fits" in text_of(app, "keys")
        await pilot.press("f")
        await until(pilot, lambda: "12 of 29 layers" in text_of(app, "detail"))


async def test_what_runs_now_is_kept_as_a_profile(folder: Path) -> None:
    _, app = started()
    async with staged(app) as pilot:
        await open_profiles(pilot)
        await pilot.press("n", "enter")
        await until(
            pilot, lambda: isinstance(app.screen, ProfilesScreen) and "base-mine is saved" in text_of(app, "detail")
        )
        assert (folder / "base-mine.toml").read_text() == 'extends = "base"\n'


async def test_a_profile_is_deleted_when_asked_twice(folder: Path) -> None:
    _, app = started()
    async with staged(app) as pilot:
        screen = await open_profiles(pilot)
        names = [profile.name for profile in screen._shelf.files]
        await pilot.press("home", "d")
        assert "ships with pagewise" in text_of(app, "detail")
        await pilot.press("home", *["down"] * names.index("base"), "d")
        assert "Delete “base”" in text_of(app, "detail") and "long" in text_of(app, "detail")
        await pilot.press("x")
        assert (folder / "base.toml").exists()
        await pilot.press("d", "d")
        await until(pilot, lambda: "base is deleted" in text_of(app, "detail"))
        assert not (folder / "base.toml").exists()
        await until(pilot, lambda: "1 profile cannot be used" in text_of(app, "detail"))


@pytest.mark.parametrize("size", [(40, 10), (60, 16), (80, 24), (200, 50)])
async def test_the_form_works_at_every_size(size: tuple[int, int]) -> None:
    _, app = started()
    async with staged(app, size) as pilot:
        await open_form(pilot, "base")
        for _ in range(len(entries()) + 2):
            await pilot.press("down")
        assert text_of(app, "fields").count("▸") == 1
        await pilot.press("pageup", "pageup", "tab", "shift+tab", "escape")
        assert isinstance(app.screen, ProfilesScreen)

from __future__ import annotations

from pathlib import Path

import pytest

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from pagewise.app.profiles.outside import OutsideEdits
from pagewise.messages import Failure, Load
from pagewise.profiles.files import resolve

MINE = 'model = "/models/m.gguf"\nn_gpu_layers = 18\n'


@pytest.fixture
def mine(own_folders: Path) -> Path:
    path = own_folders / "config" / "pagewise" / "profiles" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(MINE)
    return path


def said(edits: OutsideEdits, before: str = "mine") -> str | Failure | None:
    found = edits.look()
    return edits.compare(found, now) if found is not None and (now := NOW[before]) else None


NOW = {}


@pytest.fixture
def edits(mine: Path) -> OutsideEdits:
    NOW["mine"] = resolve("mine")
    edits = OutsideEdits()
    assert said(edits) is None and edits.look() is None
    return edits


def test_a_change_of_the_profile_in_force_is_offered_with_its_class(edits: OutsideEdits, mine: Path) -> None:
    mine.write_text(MINE + "n_ctx = 1024\n")
    told = said(edits)
    assert isinstance(told, str) and "n_ctx: 4096 → 1024" in told and "context:" in told
    assert edits.offered is not None and edits.offered.n_ctx == 1024
    taken = edits.take()
    assert taken is not None and edits.offered is None


def test_a_change_of_a_comment_or_of_another_profile_is_no_offer(edits: OutsideEdits, mine: Path) -> None:
    mine.write_text("# why\n" + MINE)
    assert said(edits) is None
    mine.with_name("other.toml").write_text("n_ctx = 1\n")
    assert said(edits) is None and edits.offered is None


def test_a_file_that_became_wrong_or_is_gone_is_said(edits: OutsideEdits, mine: Path) -> None:
    mine.write_text(MINE + "n_ctx = \n")
    told = said(edits)
    assert isinstance(told, Failure) and "line 3" in told.what and "goes on as it was loaded" in told.next
    mine.unlink()
    edits._known = {"mine": NOW["mine"]}
    told = said(edits)
    assert isinstance(told, str) and "gone" in told


def test_what_was_put_in_force_meanwhile_is_not_offered(edits: OutsideEdits, mine: Path) -> None:
    mine.write_text(MINE + "n_ctx = 1024\n")
    NOW["mine"] = resolve("mine")
    assert said(edits) is None and edits.offered is None


async def test_the_chat_offers_it_and_one_key_takes_it(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagewise.app.screens.chat.LOOK_S", 0.02)
    client = FakeClient(devices=scenes.gpu())
    app = make_app(client, resolve("mine"))
    async with staged(app) as pilot:
        await until(pilot, lambda: app._chat._outside._seen is not None)
        await pilot.press("ctrl+t")
        assert "No profile was changed" in text_of(app, "keys")
        part = mine.with_suffix(".part")
        part.write_text(MINE.replace("18", "20"))
        part.replace(mine)
        await until(pilot, lambda: "changed on disk" in text_of(app, "conversation"))
        assert "18 → 20" in text_of(app, "conversation")
        await pilot.press("ctrl+t")
        await until(pilot, lambda: app.session.profile is not None and app.session.profile.n_gpu_layers == 20)
        load = client.last(Load)
        assert isinstance(load, Load) and load.profile.n_gpu_layers == 20

"""What a switch changed, in one line; back to the former profile; memory given back."""

from __future__ import annotations

import msgspec
import pytest

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from app.test_session import Stage
from pagewise import messages
from pagewise.app.effect import Effect, Figures
from pagewise.app.effect_line import draw_effect
from pagewise.app.entries import Outcome, Remark
from pagewise.app.spans import plain, width_of
from pagewise.messages import EngineStatus, Load, Release
from pagewise.settings import Profile

OTHER = Profile(name="smaller", model="/models/small.gguf")
MIB = 1024 * 1024
BEFORE = Figures("laptop-gpu", 312.0, 41.0, 5_900 * MIB, 1_400 * MIB, 38e6)
AFTER = Figures("laptop-gpu-more", 290.0, 32.4, 6_900 * MIB, 700 * MIB, 0.0, cold=True)


@pytest.fixture
def stage() -> Stage:
    return Stage().ready()


def reading(stage: Stage) -> None:
    stage.hear(messages.Reading(scenes.snapshot(1.0)))


def answered(stage: Stage) -> None:
    stage.session.submit("Why?")
    stage.write("Because.")
    stage.finish()
    reading(stage)


def switched(stage: Stage, profile: Profile, change: messages.ChangeClass = "model") -> None:
    stage.session.switch(profile)
    stage.hear(stage.client.loaded(stage.load(), change))


def outcomes(stage: Stage) -> list[Effect]:
    return [entry.effect for entry in stage.session.entries if isinstance(entry, Outcome)]


def remarks(stage: Stage) -> str:
    return "\n".join(entry.text for entry in stage.session.entries if isinstance(entry, Remark))


def test_the_line_names_both_profiles_and_each_figure_before_and_after() -> None:
    text = plain(draw_effect(Effect(BEFORE, AFTER), 150))
    assert text.startswith("┄ laptop-gpu → laptop-gpu-more")
    for part in ("TTFT 312 → 290 ms cold", "TPOT 41.0 → 32.4 ms", "VRAM 5.8 → 6.7 GiB", "page-in 38 → 0 MB/s"):
        assert part in text
    assert "RAM 1.4 GiB → 700 MiB" in text


@pytest.mark.parametrize("width", [20, 40, 60, 76, 96, 118])
def test_the_line_is_one_line_at_every_width(width: int) -> None:
    line = draw_effect(Effect(BEFORE, AFTER), width)
    assert width_of(line) <= width
    assert plain(line).startswith(
        ("┄ laptop-gpu-more", "┄ laptop-gpu → laptop-gpu-more", "┄ laptop-gpu→laptop-gpu-more")
    )
    kept = [name for name in ("TTFT", "TPOT", "VRAM", "page-in", "RAM") if f" {name} " in plain(line)]
    assert kept == ["TTFT", "TPOT", "VRAM", "page-in", "RAM"][: len(kept)]
    assert len(kept) >= {20: 0, 40: 1, 60: 2, 76: 3, 96: 4, 118: 5}[width]


def test_what_has_not_changed_gives_way_first() -> None:
    before = Figures("a", 10.0, 2.0, None, 1_400 * MIB, 0.0)
    after = Figures("b", 11.0, 3.0, None, 700 * MIB, 0.0)
    text = plain(draw_effect(Effect(before, after), 72))
    assert "RAM" in text and "page-in" not in text


def test_a_former_profile_without_a_reply_has_no_figures() -> None:
    text = plain(draw_effect(Effect(Figures("laptop-gpu"), AFTER), 150))
    assert "TTFT 290 ms" in text and "n/a" not in text
    assert "VRAM" not in plain(draw_effect(Effect(BEFORE, Figures("b", 1.0, 2.0)), 150)), "there is no device"


def test_the_first_reply_after_a_switch_shows_what_changed(stage: Stage) -> None:
    answered(stage)
    assert outcomes(stage) == []
    switched(stage, OTHER)
    reading(stage)
    assert outcomes(stage) == [], "nothing was answered yet"
    answered(stage)
    [effect] = outcomes(stage)
    assert (effect.before.profile, effect.after.profile) == ("laptop-gpu", "smaller")
    assert effect.before.tpot_ms == effect.after.tpot_ms == scenes.timing().tpot_ms
    assert effect.after.ram_bytes and effect.after.page_in_bytes_s is not None
    answered(stage)
    assert len(outcomes(stage)) == 1, "it is said once"


def test_escape_takes_the_line_away_and_nothing_else(stage: Stage) -> None:
    answered(stage)
    switched(stage, OTHER)
    answered(stage)
    count = len(stage.session.entries)
    assert stage.session.dismiss() and outcomes(stage) == [] and len(stage.session.entries) == count - 1
    assert not stage.session.dismiss()


def test_a_load_that_nobody_asked_for_is_no_switch(stage: Stage) -> None:
    answered(stage)
    stage.hear(EngineStatus("starting"), stage.client.loaded(Load(99, scenes.LAPTOP)))
    answered(stage)
    assert outcomes(stage) == [] and stage.session.switches.former is None


def test_back_and_back_again(stage: Stage) -> None:
    assert not stage.session.back()
    switched(stage, OTHER)
    assert stage.session.switches.former == scenes.LAPTOP
    assert stage.session.back() and stage.load().profile == scenes.LAPTOP
    assert not stage.session.back(), "one load at a time"
    stage.hear(stage.client.loaded(stage.load(), "held"))
    assert stage.session.switches.former == OTHER and "still held" in remarks(stage)


def test_a_switch_that_fails_leaves_the_way_back_as_it_was(stage: Stage) -> None:
    switched(stage, OTHER)
    stage.session.switch(Profile(name="bad"))
    failure = messages.Failure("No", "It is broken.", "Choose another.")
    stage.hear(messages.LoadFailed(stage.load().id, failure, restored="smaller"))
    assert stage.session.switches.former == scenes.LAPTOP


def test_the_conversation_that_came_along_is_told(stage: Stage) -> None:
    stage.session.switch(OTHER)
    loaded = stage.client.loaded(stage.load(), "context")
    stage.hear(msgspec.structs.replace(loaded, kv_carried=1204))
    assert "1 204 tokens of the conversation came along" in remarks(stage)
    stage.session.switch(scenes.LAPTOP)
    loaded = stage.client.loaded(stage.load(), "model")
    stage.hear(msgspec.structs.replace(loaded, kv_note="the weights are those of another file"))
    assert "read again: the weights are those of another file" in remarks(stage)


def test_memory_is_given_back_by_key_and_comes_with_the_next_message(stage: Stage) -> None:
    stage.hear(EngineStatus("ready"))
    assert stage.session.release() and isinstance(stage.client.sent[-1], Release)
    stage.hear(EngineStatus("released", profile="laptop-gpu"))
    assert "next message loads the model again" in remarks(stage)
    assert not stage.session.release()
    stage.session.submit("Hello")
    assert stage.generate().messages[-1].text == "Hello"


def test_what_is_let_go_of_by_itself_is_said_once(stage: Stage) -> None:
    why = "laptop-gpu was let go of after 10m without use"
    stage.hear(EngineStatus("released", profile="laptop-gpu", why=why))
    assert remarks(stage).count("let go of") == 1 and "given back" not in remarks(stage)


async def test_keys_and_header() -> None:
    client = FakeClient(readings_hz=10.0)
    app = make_app(client)
    async with staged(app, size=(120, 40)) as pilot:
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "no former profile" in text_of(app, "keys"))
        client.say(EngineStatus("ready", kept=("bigger",)))
        await until(pilot, lambda: "+1 held" in text_of(app, "header"))
        await pilot.press("f10")
        assert isinstance(client.last(Release), Release)
        client.say(EngineStatus("released"))
        await until(pilot, lambda: "released" in text_of(app, "header"))


async def test_the_keys_that_matter_after_a_switch_are_shown_until_it_is_dismissed() -> None:
    client = FakeClient(readings_hz=20.0)
    app = make_app(client)
    async with staged(app, size=(120, 40)) as pilot:
        app.session.switch(OTHER)
        await until(pilot, lambda: app.session.profile == OTHER)
        await pilot.press(*"Why", "enter")
        await until(pilot, lambda: app.session.switches.has_outcome)
        await until(pilot, lambda: "┄ smaller  TTFT" in text_of(app, "conversation"))
        await until(pilot, lambda: "^G back to laptop-gpu" in text_of(app, "keys"))
        await pilot.press("escape")
        await until(pilot, lambda: "┄ smaller  TTFT" not in text_of(app, "conversation"))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: app.session.profile == scenes.LAPTOP)

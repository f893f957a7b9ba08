from __future__ import annotations

import pytest

from app import scenes
from app.fake_client import FakeClient
from app.stage import SIZES, make_app, screen_text, staged, text_of, until
from pagewise import messages
from pagewise.app.screens.explain import ExplainScreen
from pagewise.app.screens.gauges import GaugesScreen
from pagewise.app.widgets.conversation import Conversation
from pagewise.app.widgets.gauges import FoldedGauges, GaugeColumn
from pagewise.app.widgets.prompt import LARGE, Prompt
from pagewise.history.store import History
from pagewise.messages import Generate, Load, Stop


async def test_a_question_is_answered_and_carries_its_numbers() -> None:
    app = make_app(FakeClient())
    async with staged(app) as pilot:
        await pilot.press(*"Why", "enter")
        await until(pilot, lambda: "24.4 tok/s" in text_of(app, "conversation"))
        shown = text_of(app, "conversation")
        assert "Why" in shown and "sum of both parts" in shown
        assert "TTFT 312 ms" in shown and "TPOT 41.0 ms" in shown and "laptop-gpu" in shown
        assert app.screen.query_one(Prompt).text == ""


@pytest.mark.parametrize("key", ["ctrl+j", "shift+enter", "alt+enter"])
async def test_new_lines_do_not_send(key: str) -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("a", key, "b")
        prompt = app.screen.query_one(Prompt)
        assert prompt.text == "a\nb"
        await until(pilot, lambda: prompt.size.height == 2)
        await pilot.press("enter")
        command = client.last(Generate)
        assert isinstance(command, Generate) and command.messages[-1].text == "a\nb"


async def test_the_prompt_grows_to_eight_rows_and_no_more() -> None:
    app = make_app(FakeClient())
    async with staged(app) as pilot:
        await pilot.press(*["ctrl+j"] * 12)
        await until(pilot, lambda: app.screen.query_one(Prompt).size.height == 8)


async def test_nothing_is_sent_from_an_empty_prompt() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("space", "enter")
        assert not any(isinstance(command, Generate) for command in client.sent)


async def test_escape_stops_and_keeps_the_partial_reply() -> None:
    client = FakeClient(answer="word " * 40, token_s=0.005, endless=True)
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: "word word" in text_of(app, "conversation"))
        await pilot.press("escape")
        await until(pilot, lambda: "■ stopped" in text_of(app, "conversation"))
        assert "word word" in text_of(app, "conversation")
        assert client.last(Stop)


async def test_scrolling_back_is_not_pulled_down_and_end_follows_again() -> None:
    client = FakeClient(answer="one line of the answer\n\n" * 20, token_s=0.005, endless=True)
    app = make_app(client)
    async with staged(app, (80, 24)) as pilot:
        await pilot.press("a", "enter")
        conversation = app.screen.query_one(Conversation)
        await until(pilot, lambda: conversation.top > 20)
        await pilot.press("pageup", "pageup")
        top = conversation.top
        assert not conversation.following
        length = len(conversation._all)
        await until(pilot, lambda: len(conversation._all) > length + 10)
        assert conversation.top == top
        assert "End follows" in text_of(app, "conversation")
        await pilot.press("end")
        assert conversation.following
        await until(pilot, lambda: conversation.top > top + 20)


async def test_end_belongs_to_the_prompt_while_following() -> None:
    app = make_app(FakeClient())
    async with staged(app) as pilot:
        await pilot.press(*"abc", "home", "end", "d")
        assert app.screen.query_one(Prompt).text == "abcd"


async def test_up_recalls_earlier_prompts_and_down_returns() -> None:
    app = make_app(FakeClient(answer="ok"))
    async with staged(app) as pilot:
        prompt = app.screen.query_one(Prompt)
        for text in ("one", "two"):
            await pilot.press(*text, "enter")
            await until(pilot, lambda: app.session.turn is None)
        await pilot.press("up")
        assert prompt.text == "two"
        await pilot.press("up")
        assert prompt.text == "one"
        await pilot.press("down", "down")
        assert prompt.text == ""


async def test_a_megabyte_of_text_and_control_characters_are_sent_and_shown_safely() -> None:
    client = FakeClient(answer="ok")
    app = make_app(client)
    async with staged(app) as pilot:
        prompt = app.screen.query_one(Prompt)
        prompt.paste("x" * 1_000_000)
        assert prompt.text == "[pasted text 1: 1 000 000 characters, 1 line]"
        prompt.paste(" nul\x00 esc\x1b[31m end")
        await pilot.press("enter")
        await until(pilot, lambda: any(isinstance(command, Generate) for command in client.sent))
        command = client.last(Generate)
        assert isinstance(command, Generate)
        text = command.messages[-1].text
        assert text == "x" * 1_000_000 + " nul␀ esc␛[31m end"
        await until(pilot, lambda: "more characters" in text_of(app, "conversation"))


def test_a_large_paste_is_one_that_nobody_edits() -> None:
    assert LARGE >= 1000


async def test_model_output_never_carries_escape_sequences_to_the_screen() -> None:
    app = make_app(FakeClient(answer="red \x1b[31m bell \x07 clear \x1b[2J end"))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: "clear ␛[2J end" in text_of(app, "conversation"))
        strips = [app.screen.query_one(Conversation).render_line(row) for row in range(30)]
        assert "\x1b" not in "".join(strip.text for strip in strips)


async def test_load_and_prefill_are_shown_where_the_reply_will_stand() -> None:
    client = FakeClient(manual=True)
    app = make_app(client)
    async with staged(app) as pilot:
        await until(pilot, lambda: any(isinstance(command, Load) for command in client.sent))
        load = client.last(Load)
        assert isinstance(load, Load)
        client.say(messages.LoadProgress(load.id, "read", 2 * 1024**3, 4 * 1024**3))
        await until(pilot, lambda: "2.0 / 4.0 GiB" in text_of(app, "conversation"))
        assert "Esc cancels" in text_of(app, "conversation") and "50 %" in text_of(app, "header")
        await pilot.press("a", "enter")
        await until(pilot, lambda: "waiting" in text_of(app, "conversation"))
        client.say(client.loaded(load))
        await until(pilot, lambda: app.session.turn is not None)
        assert app.session.turn is not None
        client.say(messages.Prefill(app.session.turn.id, 512, 2048, 128))
        await until(pilot, lambda: "512 / 2 048 tokens, 128 from the KV cache" in text_of(app, "conversation"))


async def test_a_lost_engine_is_said_inline() -> None:
    client = FakeClient(manual=True)
    app = make_app(client)
    async with staged(app) as pilot:
        await until(pilot, lambda: any(isinstance(command, Load) for command in client.sent))
        load = client.last(Load)
        assert isinstance(load, Load)
        client.say(client.loaded(load))
        await until(pilot, lambda: app.session.model is not None)
        await pilot.press("a", "enter")
        assert app.session.turn is not None
        turn = app.session.turn.id
        client.say(
            messages.Tokens(turn, (1,), "a partial", 1, 10, 40.0),
            messages.Finished(turn, "engine lost", None, scenes.LOST),
            messages.EngineLost(scenes.LOST, 9, None, False),
            messages.EngineStatus("starting"),
        )
        await until(pilot, lambda: "starting the engine again" in text_of(app, "conversation"))
        shown = text_of(app, "conversation")
        assert "a partial" in shown and "the engine was lost" in shown and "SIGKILL" in shown
        client.say(client.loaded(load))
        await until(pilot, lambda: "starting the engine" not in text_of(app, "conversation"))
        await pilot.press("b", "enter")
        assert app.session.turn is not None


async def test_the_gauges_move_with_the_readings() -> None:
    client = FakeClient(manual=True)
    app = make_app(client)
    async with staged(app) as pilot:
        client.say(messages.Reading(scenes.snapshot(page_in=38e6)))
        await until(pilot, lambda: "38 MB/s" in text_of(app, "gauges"))
        client.say(messages.Reading(scenes.snapshot(page_in=61e6)))
        await until(pilot, lambda: "61 MB/s" in text_of(app, "gauges"))


async def test_f3_chooses_a_gauge_and_question_mark_explains_it() -> None:
    app = make_app(FakeClient(readings_hz=5))
    async with staged(app) as pilot:
        await pilot.press("f3", "down", "down")
        assert isinstance(app.focused, GaugeColumn)
        assert "▸PAGE-IN" in text_of(app, "gauges")
        await pilot.press("question_mark")
        assert isinstance(app.screen, ExplainScreen)
        assert "read_bytes" in text_of(app, "page")
        await pilot.press("escape")
        assert isinstance(app.focused, GaugeColumn)
        await pilot.press("escape")
        assert isinstance(app.focused, Prompt)


async def test_on_a_narrow_terminal_f3_opens_the_gauges_over_the_chat() -> None:
    app = make_app(FakeClient(readings_hz=5))
    async with staged(app, (80, 24)) as pilot:
        assert app.screen.query_one(FoldedGauges).display and not app.screen.query_one(GaugeColumn).display
        await pilot.press("f3")
        assert isinstance(app.screen, GaugesScreen)
        await until(pilot, lambda: "MODEL FILE" in text_of(app, "gauges"))
        await pilot.press("end", "enter")
        assert "BOUND BY" in screen_text(app)
        await pilot.press("escape", "escape")
        assert isinstance(app.focused, Prompt)


@pytest.mark.parametrize("size", [(40, 10), (20, 5), (300, 100), *SIZES])
async def test_every_size_shows_the_prompt_and_the_last_lines(size: tuple[int, int]) -> None:
    app = make_app(FakeClient(answer="word " * 100 + "last", readings_hz=5))
    async with staged(app, size) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: app.session.turn is None and app.session.entries != [])
        prompt = app.screen.query_one(Prompt)
        await until(pilot, lambda: prompt.region.bottom <= size[1] and prompt.size.height >= 1)
        if size[1] >= 10:
            assert "last" in text_of(app, "conversation")


async def test_resizing_while_a_reply_streams() -> None:
    app = make_app(FakeClient(answer="word " * 300, token_s=0.002, readings_hz=5))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        for width, height in ((80, 24), (40, 10), (200, 50), (120, 40)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
        await until(pilot, lambda: app.session.turn is None)
        await until(pilot, lambda: "tok/s · laptop-gpu" in text_of(app, "conversation"))


async def test_themes_step_live_and_are_remembered() -> None:
    from pagewise.profiles.state import recall

    app = make_app(FakeClient())
    async with staged(app) as pilot:
        before = app.palette
        await pilot.press("f9")
        assert app.palette is not before
        assert recall("theme") == "light"
        assert "theme light" in text_of(app, "keys")
        for _ in range(3):
            await pilot.press("f9")
        assert recall("theme") == "dark"


async def test_the_last_conversation_is_continued() -> None:
    history = History.in_memory()
    first = make_app(FakeClient(answer="an answer"), history=history)
    conversation = None
    async with staged(first) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: first.session.turn is None and len(first.session.entries) == 2)
        conversation = first.session.journal.conversation
        first.session.journal._history = None
    second = make_app(FakeClient(), history=history, continue_last=True)
    async with staged(second) as pilot:
        await until(pilot, lambda: "an answer" in text_of(second, "conversation"))
        assert second.session.journal.conversation == conversation
        await pilot.press("up")
        assert second.screen.query_one(Prompt).text == "a"


async def test_a_long_conversation_opens_at_its_end_and_reveals_the_rest() -> None:
    history = History.in_memory()
    conversation = history.new_conversation("laptop-gpu")
    for number in range(60):
        history.add_user(conversation, f"question {number}")
        reply = history.begin_reply(conversation, "laptop-gpu", "Qwen")
        history.append(reply, f"answer {number}", (1,))
        history.finish(reply, "end")
    app = make_app(FakeClient(), history=history, continue_last=True)
    async with staged(app) as pilot:
        await until(pilot, lambda: "answer 59" in text_of(app, "conversation"))
        for _ in range(60):
            await pilot.press("pageup")
        assert "question 0" in text_of(app, "conversation")


async def test_history_that_fails_is_told_and_the_chat_goes_on() -> None:
    app = make_app(FakeClient(answer="ok"))
    async with staged(app) as pilot:
        app.session.journal._on_failure(scenes.LOST)
        await until(pilot, lambda: scenes.LOST.what in text_of(app, "conversation"))
        await pilot.press("a", "enter")
        await until(pilot, lambda: app.session.turn is None)


async def test_an_unusable_database_is_replaced_by_memory(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pagewise.history import store

    monkeypatch.setattr(store, "history_file", lambda: __import__("pathlib").Path("/proc/no/history.db"))
    client = FakeClient(answer="ok")
    from pagewise.app.app import PagewiseApp

    app = PagewiseApp(scenes.LAPTOP, client, None, theme="dark", hz=50.0)
    async with staged(app) as pilot:
        await until(pilot, lambda: "Conversations are not being saved" in text_of(app, "conversation"))
        await pilot.press("a", "enter")
        await until(pilot, lambda: "ok" in text_of(app, "conversation"))


async def test_quitting_closes_the_host() -> None:
    client = FakeClient()
    app = make_app(client)
    async with staged(app) as pilot:
        await pilot.press("ctrl+q")
    assert client.closed


async def test_the_palette_has_every_action() -> None:
    app = make_app(FakeClient())
    async with staged(app):
        titles = " ".join(command.title for command in app.get_system_commands(app.screen))
        for word in (
            "Profiles",
            "Gauges",
            "Conversations",
            "Open a model",
            "Answer again",
            "Quit",
            "Theme: light",
        ):
            assert word in titles


async def test_the_help_names_every_key() -> None:
    app = make_app(FakeClient())
    async with staged(app) as pilot:
        await pilot.press("f1")
        shown = text_of(app, "page")
        for key in ("F2", "F3", "F4", "F9", "^O", "^N", "^R", "^P", "^Q", "Esc", "PageUp", "End"):
            assert key in shown

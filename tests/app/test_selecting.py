"""Selecting text of the conversation with the mouse."""

from __future__ import annotations

from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from pagewise.app.widgets.conversation import Conversation


async def test_dragging_over_the_conversation_selects_its_text() -> None:
    app = make_app(FakeClient(answer="one two three"))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: "tok/s" in text_of(app, "conversation"))
        lines = text_of(app, "conversation").split("\n")
        row = next(number for number, line in enumerate(lines) if "one two three" in line)
        column = lines[row].index("two")
        await pilot.mouse_down(Conversation, offset=(column, row))
        await pilot.hover(Conversation, offset=(column + 6, row))
        await pilot.mouse_up(Conversation, offset=(column + 6, row))
        assert app.screen.get_selected_text() == "two thr"


async def test_a_selection_keeps_its_text_while_it_scrolls() -> None:
    app = make_app(FakeClient(answer="\n\n".join(f"line {number}" for number in range(60))))
    async with staged(app) as pilot:
        await pilot.press("a", "enter")
        await until(pilot, lambda: "tok/s" in text_of(app, "conversation"))
        conversation = app.screen.query_one(Conversation)
        lines = text_of(app, "conversation").split("\n")
        row = next(number for number, line in enumerate(lines) if "line 50" in line)
        column = lines[row].index("line 50")
        await pilot.mouse_down(Conversation, offset=(column, row))
        await pilot.hover(Conversation, offset=(column + 6, row))
        await pilot.mouse_up(Conversation, offset=(column + 6, row))
        conversation.scroll_lines(-5)
        await pilot.pause()
        assert app.screen.get_selected_text() == "line 50"

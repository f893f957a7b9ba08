"""Where the person writes."""

from __future__ import annotations

import re

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea

from pagewise.app.figures import count
from pagewise.app.visible import visible

LARGE = 4_000
"""Characters from which pasted text is kept aside and stands in the prompt as one short mark."""
_MARK = re.compile(r"\[pasted text (\d+): [^\]]*\]")


class Prompt(TextArea):
    """Several lines of text. Enter sends; ctrl+j, shift+enter and alt+enter begin a new line."""

    BINDINGS = [
        Binding("ctrl+z", "app.suspend_process", "Suspend", show=False, priority=True),
        Binding("ctrl+underscore", "undo", "Undo", show=False),
    ]

    class Submitted(Message):
        """The person pressed Enter."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(
            id="prompt", soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False
        )
        self.cursor_blink = False
        self._pasted: dict[int, str] = {}
        self._earlier: list[str] = []
        self._at: int | None = None
        self._draft = ""

    # ---- sending ----------------------------------------------------------------------------------------------------

    @property
    def whole_text(self) -> str:
        """The text with what was pasted in its place."""
        return _MARK.sub(lambda mark: self._pasted.get(int(mark[1]), mark[0]), self.text)

    def give(self, text: str) -> None:
        """Put text back, before what may have been written meanwhile."""
        kept = self.text
        self.text = ""
        self.paste(text + ("\n" + kept if kept.strip() else ""))

    def remember(self, texts: list[str]) -> None:
        """The questions of another conversation: Up finds them."""
        self._earlier = list(texts)
        self._at = None

    def _submit(self) -> None:
        text = self.whole_text
        if not text.strip():
            return
        self._earlier.append(text)
        self._at = None
        self._pasted.clear()
        self.text = ""
        self.post_message(self.Submitted(text))

    # ---- keys -------------------------------------------------------------------------------------------------------

    async def _on_key(self, event: events.Key) -> None:
        key = event.key
        if key == "enter":
            event.stop()
            event.prevent_default()
            self._submit()
        elif key in ("ctrl+j", "shift+enter", "alt+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
            self.scroll_cursor_visible()
        elif (key == "up" and self._may_recall()) or (key == "down" and self._at is not None and self._may_recall()):
            event.stop()
            event.prevent_default()
            self._recall(-1 if key == "up" else 1)
        else:
            if event.character is not None and event.is_printable and visible(event.character) != event.character:
                event.stop()
                event.prevent_default()
                return
            await super()._on_key(event)

    def _may_recall(self) -> bool:
        """Up and Down step through earlier questions from an empty prompt, or while one of them stands unchanged."""
        if not self._earlier:
            return False
        return not self.text or (self._at is not None and self.whole_text == self._earlier[self._at])

    def _recall(self, step: int) -> None:
        at = len(self._earlier) if self._at is None else self._at
        at += step
        if at < 0:
            return
        self.text = ""
        self._at = at if at < len(self._earlier) else None
        if self._at is not None:
            self.paste(self._earlier[self._at])

    # ---- pasting ----------------------------------------------------------------------------------------------------

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.paste(event.text)

    def paste(self, text: str) -> None:
        """Insert text: control characters as their pictures, and a large one as a short mark."""
        text = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
        if len(text) > LARGE:
            number = max(self._pasted, default=0) + 1
            self._pasted[number] = text
            lines = text.count("\n") + 1
            text = (
                f"[pasted text {number}: {count(len(text))} characters, {count(lines)} line{'s' if lines > 1 else ''}]"
            )
        result = self._replace_via_keyboard(text, *self.selection)
        if result is not None:
            self.move_cursor(result.end_location)

"""One line that is typed in: a filter, a path."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from pagewise.app.visible import visible_line


class Field(Input):
    """Textual's input, with control characters that are pasted shown as their pictures, and a cursor that is still."""

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id="field", select_on_focus=False)
        self.cursor_blink = False

    def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        pasted = event.text.strip("\r\n")
        self.insert_text_at_cursor(visible_line(pasted))

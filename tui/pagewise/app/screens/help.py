"""F1: every key."""

from __future__ import annotations

from textual.widget import Widget

from pagewise.app.actions import ACTIONS
from pagewise.app.screens.sheet import Sheet
from pagewise.app.spans import BLANK, Line, wrap
from pagewise.app.widgets.page import Page

_KEY = 10
_TITLE = 18


def draw_help(width: int) -> list[Line]:
    """A line for each action, and what the figures are counted in."""
    lines: list[Line] = []
    wide = width >= 72
    for action in ACTIONS:
        key = (f"{action.keys:<{_KEY}}", "value")
        title = (f"{action.title:<{_TITLE}}", "text")
        if wide:
            lines += wrap((key, title, (action.help, "muted")), width, rest=_KEY + _TITLE)
        else:
            lines += wrap((key, (f"{action.title}: ", "text"), (action.help, "muted")), width, rest=_KEY)
    lines.append(BLANK)
    lines += wrap(
        (
            (
                "Memory is counted in GiB (1024³ bytes), as llama.cpp prints it; what flows in MB/s (10⁶ bytes). ",
                "muted",
            ),
            ("n/a", "text"),
            (" means that a value is not known here; ? on its gauge says why.", "muted"),
        ),
        width,
    )
    return lines


class HelpScreen(Sheet[None]):
    """All keys."""

    CSS_PATH = ["sheet.tcss", "page.tcss"]
    KEYS = [("Esc", "close"), ("↑↓", "scroll")]
    BINDINGS = [("f1", "close", "Close")]

    def __init__(self) -> None:
        super().__init__("Keys", "pagewise")

    def body(self) -> list[Widget]:
        """The keys."""
        return [Page(draw_help, id="page")]

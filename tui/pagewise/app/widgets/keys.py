"""The last line: the keys that matter now."""

from __future__ import annotations

from pagewise.app.spans import Line, Span, clip
from pagewise.app.widgets.painted import Painted

Key = tuple[str, str]
FLASH_S = 3.0


def draw_keys(keys: list[Key], width: int) -> Line:
    """As many keys as fit, the first ones first."""
    spans: list[Span] = []
    used = 0
    for key, word in keys:
        length = len(key) + len(word) + 1 + (3 if spans else 0)
        if used + length > width:
            continue
        spans += [("   " if spans else "", "text"), (key, "value"), (f" {word}", "muted")]
        used += length
    return tuple(span for span in spans if span[0])


class Keys(Painted):
    """One line of keys."""

    def __init__(self, keys: list[Key]) -> None:
        super().__init__(id="keys")
        self._keys = keys
        self._flashed = ""

    def flash(self, text: str) -> None:
        """Say something in passing."""
        self._flashed = text
        self.repaint()
        self.set_timer(FLASH_S, self._flash_over)

    def _flash_over(self) -> None:
        self._flashed = ""
        self.repaint()

    def show(self, keys: list[Key]) -> None:
        """Other keys matter now."""
        if keys != self._keys:
            self._keys = keys
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        """The line."""
        if self._flashed:
            return [clip(((self._flashed, "text"),), width)]
        return [draw_keys(self._keys, width)]

"""The two lines that part the screen: beside the conversation, showing where in it one is, and above the prompt."""

from __future__ import annotations

from pagewise.app.spans import Line
from pagewise.app.widgets.painted import Painted


def thumb(top: int, shown: int, total: int, height: int) -> tuple[int, int]:
    """First row and length of the part of ``height`` rows that stands for what is shown; length 0 if all is shown."""
    if total <= shown or height <= 0:
        return 0, 0
    length = max(1, round(height * shown / total))
    start = round((height - length) * top / max(total - shown, 1))
    return max(0, min(start, height - length)), length


class ScrollRule(Painted):
    """The line between conversation and gauges; its heavy part shows which part of the conversation is seen."""

    def __init__(self) -> None:
        super().__init__(id="rule")
        self._place = (0, 0, 0)

    def show(self, top: int, shown: int, total: int) -> None:
        """The conversation was scrolled, or has grown."""
        if (top, shown, total) != self._place:
            self._place = (top, shown, total)
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        """The line, from top to bottom."""
        start, length = thumb(*self._place, height)
        return [(("┃", "muted"),) if start <= row < start + length else (("│", "faint"),) for row in range(height)]


class Rule(Painted):
    """The line above the prompt; it joins the other one where there is one."""

    def __init__(self) -> None:
        super().__init__(id="above-prompt")
        self._joint: int | None = None

    def show(self, joint: int | None) -> None:
        """The column where the other line ends, or None."""
        if joint != self._joint:
            self._joint = joint
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        """The line, from left to right."""
        if self._joint is None or not 0 <= self._joint < width:
            return [(("─" * width, "faint"),)]
        return [(("─" * self._joint + "┴" + "─" * (width - self._joint - 1), "faint"),)]

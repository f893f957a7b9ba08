"""The base of every widget here: lines of spans in, only the cells that changed out."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from pagewise.app.palette import Palette
from pagewise.app.spans import BLANK, Line, Span, fill

_MARKS_BLANKS = frozenset({"link", "strike", "chosen"})
"""Words of roles that are seen on a blank too."""


class PaintedApp(App[None]):
    """An app that has a palette."""

    palette: Palette


class Painted(Widget):
    """A widget that draws itself as lines of spans.

    ``repaint`` compares what it draws with what is on the screen and asks only for the differing cells: over a slow
    line a figure that changed costs its own few bytes.
    """

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._lines_size = Size(-1, -1)
        self._strips: dict[Line, Strip] = {}
        self._look: tuple[Palette, Style] | None = None

    def paint(self, width: int, height: int) -> list[Line]:
        """What is to be seen: at most ``height`` lines of at most ``width`` cells."""
        raise NotImplementedError

    @property
    def palette(self) -> Palette:
        """The styles of the present theme."""
        app = self.app
        assert isinstance(app, PaintedApp)
        return app.palette

    def repaint(self) -> None:
        """Draw again, and refresh the cells that differ."""
        size = self.content_size
        if not self.is_mounted or not size.area:
            return
        if size != self._lines_size:
            self._lines_size = Size(-1, -1)
            self.refresh()
            return
        before, self._lines = self._lines, self._paint(size)
        regions = []
        for y, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if old != new:
                start, end = changed_cells(old, new, size.width)
                if end > start:
                    regions.append(Region(start, y, end - start, 1))
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """One line for the compositor."""
        size = self.content_size
        if size != self._lines_size:
            self._lines = self._paint(size)
            self._lines_size = size
        return self._strip(self._lines[y]) if 0 <= y < len(self._lines) else Strip.blank(size.width)

    def notify_style_update(self) -> None:
        """Another theme, perhaps: then all styles are other ones."""
        super().notify_style_update()
        look = (self.palette, self.rich_style)
        if look != self._look:
            self._look = look
            self._strips.clear()
            self._lines_size = Size(-1, -1)
            self.refresh()

    def _paint(self, size: Size) -> list[Line]:
        lines = self.paint(size.width, size.height)[: size.height]
        return [*lines, *[BLANK] * (size.height - len(lines))]

    def _strip(self, line: Line) -> Strip:
        strip = self._strips.get(line)
        if strip is None:
            if len(self._strips) > 512:
                self._strips.clear()
            width = self._lines_size.width
            style, ground = self.palette.style, self.rich_style
            strip = Strip(
                [Segment(text, ground + style(role)) for text, role in _joined_blanks(fill(line, width))], width
            )
            self._strips[line] = strip
        return strip


def _joined_blanks(line: Line) -> Line:
    """Blanks in the role of what stands before them: nobody sees it, and each change of style is 40 bytes."""
    joined: list[Span] = []
    for text, role in line:
        if joined and (
            joined[-1][1] == role or (text.isspace() and not _MARKS_BLANKS.intersection(joined[-1][1].split()))
        ):
            joined[-1] = (joined[-1][0] + text, joined[-1][1])
        else:
            joined.append((text, role))
    return tuple(joined)


def changed_cells(old: Line, new: Line, width: int) -> tuple[int, int]:
    """Start and end of the cells that differ; the whole line where cells are not characters."""
    before, after = _cells(old), _cells(new)
    if before is None or after is None:
        return 0, width
    before += [(" ", "text")] * (width - len(before))
    after += [(" ", "text")] * (width - len(after))
    start = 0
    end = min(len(before), len(after), width)
    while start < end and before[start] == after[start]:
        start += 1
    while end > start and before[end - 1] == after[end - 1]:
        end -= 1
    return start, end


def _cells(line: Line) -> list[tuple[str, str]] | None:
    cells: list[tuple[str, str]] = []
    for text, role in line:
        if not text.isascii() and cell_len(text) != len(text):
            return None
        cells += [(character, role) for character in text]
    return cells

"""The conversation: every message as lines, scrolled by hand, following the reply unless one has scrolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip

from pagewise.app.entries import Question, Reply
from pagewise.app.figures import count
from pagewise.app.progress import draw_progress
from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, ends, indent, plain
from pagewise.app.transcript import WIDEST, Transcript
from pagewise.app.welcome import Welcome, draw_welcome
from pagewise.app.widgets.painted import Painted

if TYPE_CHECKING:
    from textual import events
    from textual.selection import Selection

_MARGIN = 1
_MARGIN_SPAN = (" " * _MARGIN, "text")


class Conversation(Painted):
    """Scrolls over the transcript. ``top`` is the first line that is seen."""

    ALLOW_SELECT = True

    class Scrolled(Message):
        """Another part of the conversation is seen, or it has grown."""

        def __init__(self, top: int, shown: int, total: int) -> None:
            super().__init__()
            self.top, self.shown, self.total = top, shown, total

        def can_replace(self, message: Message) -> bool:
            """Only the newest counts."""
            return isinstance(message, Conversation.Scrolled)

    def __init__(self, session: Session, welcome: Welcome = draw_welcome) -> None:
        """``welcome`` draws what stands there before anything was said."""
        super().__init__(id="conversation")
        self._session = session
        self._welcome = welcome
        self._transcript = Transcript(session.entries)
        self._all: list[Line] = []
        self._told = (-1, -1, -1)
        self.top = 0
        self.following = True

    # ---- scrolling --------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Another conversation: begin at its end."""
        self._transcript.restart()
        self.follow()

    def follow(self) -> None:
        """Go to the end and stay there while it grows."""
        self.following = True
        self.repaint()

    def scroll_lines(self, lines: int) -> None:
        """Scroll by so many lines, up if negative. At the end it follows again."""
        height = self.content_size.height
        top = self.top + lines
        if top < 0 and self._transcript.hidden:
            before = len(self._all)
            self._transcript.reveal()
            top += len(self._lay_out(self.content_size.width, height)) - before
        last = max(len(self._all) - height, 0)
        self.top = max(0, min(top, last))
        self.following = self.top >= last
        self.repaint()

    def scroll_pages(self, pages: int) -> None:
        """Scroll by pages, of which two lines stay seen."""
        self.scroll_lines(pages * max(self.content_size.height - 2, 1))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three lines up."""
        event.stop()
        self.scroll_lines(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three lines down."""
        event.stop()
        self.scroll_lines(3)

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def _lay_out(self, width: int, height: int) -> list[Line]:
        room = max(min(width - 2 * _MARGIN, WIDEST), 1)
        progress = draw_progress(self._session, room)
        lines = self._transcript.lines(room) if self._session.entries else []
        if not any(isinstance(entry, Question | Reply) for entry in self._session.entries):
            below = len(lines) + len(progress) + 1
            lines = [*self._welcome(self._session, room, max(height - below, 0)), BLANK, *lines]
        elif progress and self._session.load is None and len(lines) > 1:
            lines.pop()
        lines += progress
        while lines and not plain(lines[-1]).strip():
            lines.pop()
        self._all = lines
        return lines

    def paint(self, width: int, height: int) -> list[Line]:
        """The part that is seen; while scrolled back its last line says how much has come below."""
        lines = self._lay_out(width, height)
        last = max(len(lines) - height, 0)
        if self.following:
            self.top = last
        self.top = max(0, min(self.top, last))
        shown = indent(lines[self.top : self.top + height], _MARGIN_SPAN)
        below = len(lines) - self.top - height
        if below > 0 and height > 1:
            note = (
                ("  ↓ ", "accent"),
                (f"{count(below)} more lines  ", "text"),
                ("End", "value"),
                (" follows ", "muted"),
            )
            shown[-1] = ends((), note, width)
        place = (self.top, height, len(lines))
        if place != self._told:
            self._told = place
            self.post_message(self.Scrolled(*place))
        return shown

    # ---- selecting text ---------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line, with the place of its characters for selecting, and what is selected marked."""
        strip = super().render_line(y)
        number = self.top + y
        selection = self.text_selection
        span = selection.get_span(number) if selection is not None else None
        if span is not None:
            start, end = span
            length = len(strip.text) if end == -1 else end
            strip = _marked(strip, start, length, self.screen.get_component_rich_style("screen--selection"))
        return strip.apply_offsets(0, number)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, without the margins."""
        return selection.extract("\n".join(" " * _MARGIN + plain(line) for line in self._all)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Mark it."""
        self.refresh()


def _marked(strip: Strip, start: int, end: int, style: Style) -> Strip:
    segments: list[Segment] = []
    position = 0
    for segment in strip:
        text = segment.text
        first, last = max(start - position, 0), max(min(end - position, len(text)), 0)
        position += len(text)
        if first >= last:
            segments.append(segment)
            continue
        base = segment.style or Style()
        for part, part_style in ((text[:first], base), (text[first:last], base + style), (text[last:], base)):
            if part:
                segments.append(Segment(part, part_style))
    return Strip(segments, strip.cell_length)

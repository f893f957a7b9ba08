"""From the entries of a conversation to its lines, each laid out again only when it changed."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from pagewise.app.effect_line import draw_effect
from pagewise.app.entries import Entry, Outcome, Question, Remark, Reply
from pagewise.app.figures import count, duration, per_second
from pagewise.app.markdown import MarkdownLines
from pagewise.app.spans import BLANK, Line, clip, ends, indent, line, plain, wrap
from pagewise.app.visible import visible, visible_line

WIDEST = 100
"""Cells of text beyond which lines are no longer read with ease."""
PAGE = 40
"""Entries that are laid out at once when a long conversation is opened."""
_INDENT = ("  ", "text")
_LONGEST_SHOWN = 12_000
"""Characters of a question that are shown; all of it is sent."""

_ENDINGS = {
    "stopped": ("■ stopped", "text"),
    "interrupted": ("■ interrupted: pagewise ended while it was written", "warn"),
    "engine lost": ("✕ the engine was lost; this part is kept", "warn"),
    "failed": ("✕ failed", "warn"),
    "length": ("┄ cut at max_tokens", "text"),
    "context full": ("┄ the context is full: ctrl+n begins a new conversation", "warn"),
}


class Transcript:
    """The lines of all entries at one width."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._laid_out: WeakKeyDictionary[Entry, tuple[int, int, list[Line]]] = WeakKeyDictionary()
        self._documents: WeakKeyDictionary[Reply, MarkdownLines] = WeakKeyDictionary()
        self.hidden = 0
        """Earlier entries that are not laid out yet."""

    def restart(self) -> None:
        """The conversation is another one: show its last page."""
        self.hidden = max(len(self._entries) - PAGE, 0)

    def reveal(self) -> None:
        """Show a page more of what came earlier."""
        self.hidden = max(self.hidden - PAGE, 0)

    def lines(self, width: int) -> list[Line]:
        """All lines, each entry followed by a blank one."""
        self.hidden = min(self.hidden, len(self._entries))
        lines: list[Line] = []
        if self.hidden:
            lines += [((f"↑ {count(self.hidden)} earlier messages: PageUp", "muted"),), BLANK]
        for entry in self._entries[self.hidden :]:
            lines += self._entry(entry, width)
            lines.append(BLANK)
        return lines

    def _entry(self, entry: Entry, width: int) -> list[Line]:
        cached = self._laid_out.get(entry)
        if cached is not None and cached[:2] == (entry.revision, width):
            return cached[2]
        if isinstance(entry, Question):
            lines = _question(entry, width)
        elif isinstance(entry, Reply):
            lines = self._reply(entry, width)
        elif isinstance(entry, Remark):
            lines = _remark(entry, width)
        elif isinstance(entry, Outcome):
            lines = [draw_effect(entry.effect, width)]
        else:
            raise TypeError(f"no entry: {entry!r}")
        self._laid_out[entry] = (entry.revision, width, lines)
        return lines

    def _reply(self, reply: Reply, width: int) -> list[Line]:
        document = self._documents.get(reply)
        if document is None:
            document = self._documents[reply] = MarkdownLines(reply.shown)
            reply.drawn()
        else:
            document.extend(reply.drawn())
        if reply.ending is not None:
            document.finish()
        body = indent(document.lines(width - 2), _INDENT)
        lines: list[Line] = [clip(((visible_line(reply.model), "strong accent"),), width), *body]
        if reply.ending is None:
            if reply.shown:
                lines[-1] = (*lines[-1], ("▌", "accent"))
            if reply.stopping:
                lines.append((_INDENT, ("stopping…", "muted")))
            return lines
        lines += _foot(reply, width)
        if reply.failure is not None:
            told = visible(reply.failure.why)
            lines += [(_INDENT, *one) for one in wrap(((told, "text"),), width - 2)]
            if reply.failure.next:
                lines += [
                    (_INDENT, *one)
                    for one in wrap((("→ ", "accent"), (visible(reply.failure.next), "text")), width - 2)
                ]
        return lines


def numbers(reply: Reply, width: int) -> str:
    """What a reply cost, in as many parts as fit: tokens, TTFT, TPOT, rate, profile."""
    timing = reply.timing
    n_output = timing.n_output if timing else len(reply.ids)
    parts = [f"{count(n_output)} token{'' if n_output == 1 else 's'}"]
    if timing is not None:
        parts += [
            f"TTFT {duration(timing.ttft_ms)}",
            f"TPOT {duration(timing.tpot_ms)}",
            per_second(timing.decode_rate) if timing.decode_rate else "",
        ]
    parts.append(visible_line(reply.profile))
    parts = [part for part in parts if part]
    while len(parts) > 1 and sum(len(part) + 3 for part in parts) - 3 > width:
        parts.pop(-1 if len(parts) > 4 else 0)
    return " · ".join(parts)


def _foot(reply: Reply, width: int) -> list[Line]:
    """How it ended and what it cost."""
    word, role = _ENDINGS.get(reply.ending or "", ("", "text"))
    left = line(_INDENT, (word, role)) if word else ()
    right = ((numbers(reply, width - 2), "muted"),)
    if len(plain(left)) + len(right[0][0]) + 2 > width:
        return [clip(left, width), ends((), right, width)]
    return [ends(left, right, width)]


def _question(question: Question, width: int) -> list[Line]:
    head = ends((("You", "label"),), (("waiting", "muted"),) if question.waiting else (), width)
    text = question.text
    left_out = len(text) - _LONGEST_SHOWN
    if left_out > 0:
        text = text[:_LONGEST_SHOWN]
    lines = [head, *indent(wrap(((visible(text), "text"),), width - 2), _INDENT)]
    if left_out > 0:
        lines.append((_INDENT, (f"… and {count(left_out)} more characters, which are sent as well", "muted")))
    return lines


def _remark(remark: Remark, width: int) -> list[Line]:
    failure = remark.failure
    if failure is None:
        return [clip((("┄ ", "faint"), *one), width) for one in wrap(((visible(remark.text), "muted"),), width - 2)]
    lines = [(("▲ ", "warn"), *one) for one in wrap(((visible(failure.what), "strong warn"),), width - 2)]
    lines += [(_INDENT, *one) for one in wrap(((visible(failure.why), "text"),), width - 2) if failure.why]
    if failure.next:
        lines += [(_INDENT, *one) for one in wrap((("→ ", "accent"), (visible(failure.next), "text")), width - 2)]
    return lines

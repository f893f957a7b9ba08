"""Lines of styled text as plain data: what every gauge, message and list is made of before it is painted.

A span is text and a role; a role is one or more words (``muted``, ``strong accent``) that a palette turns into a style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

Span = tuple[str, str]
Line = tuple[Span, ...]

BLANK: Line = ()
_LINE_END: list[Span] = [("\n", "")]


def line(*spans: Span | str) -> Line:
    """A line of these spans; a bare string has the role ``text``. Empty spans are left out."""
    return tuple((span, "text") if isinstance(span, str) else span for span in spans if span and span != ("", ""))


def plain(spans: Iterable[Span]) -> str:
    """The text alone."""
    return "".join(text for text, _ in spans)


def width_of(spans: Iterable[Span]) -> int:
    """Width in cells."""
    return sum(cell_len(text) for text, _ in spans)


def clip(spans: Sequence[Span], width: int, mark: str = "…") -> Line:
    """At most ``width`` cells; what is cut off is announced by ``mark`` in its last cell."""
    if width <= 0:
        return BLANK
    if width_of(spans) <= width:
        return tuple(spans)
    room = width - cell_len(mark)
    if room < 0:
        return BLANK
    kept: list[Span] = []
    role = "muted"
    for text, role in spans:
        length = cell_len(text)
        if length > room:
            if room:
                kept.append((set_cell_size(text, room), role))
            break
        kept.append((text, role))
        room -= length
        if not room:
            break
    return (*kept, (mark, role))


def fill(spans: Sequence[Span], width: int, role: str = "text") -> Line:
    """Exactly ``width`` cells: clipped, or padded with spaces of ``role``."""
    clipped = clip(spans, width)
    missing = width - width_of(clipped)
    return (*clipped, (" " * missing, role)) if missing > 0 else clipped


def ends(left: Sequence[Span], right: Sequence[Span], width: int) -> Line:
    """``left`` at the left edge, ``right`` at the right edge; where both do not fit, the left is clipped."""
    right = clip(right, width)
    room = width - width_of(right)
    if right and room > 0:
        kept = clip(left, room - 1)
        return (*kept, (" " * (room - width_of(kept)), "text"), *right)
    return right if right else clip(left, width)


def indent(lines: Iterable[Line], prefix: Span) -> list[Line]:
    """Each line behind ``prefix``."""
    return [(prefix, *one) for one in lines]


def wrap(spans: Iterable[Span], width: int, rest: int = 0) -> list[Line]:
    """Words wrapped to ``width`` cells, further lines indented by ``rest``; a word that is too long is broken.

    Line ends in the text are kept. Always at least one line.
    """
    width = max(width, 1)
    rest = max(min(rest, width - 2), 0)
    lines: list[Line] = []
    current: list[Span] = []
    used = 0
    pending: list[Span] = []

    def end_line() -> None:
        nonlocal used
        lines.append(_joined(current))
        current.clear()
        pending.clear()
        if rest:
            current.append((" " * rest, "text"))
        used = rest

    for pieces in _words(spans):
        if pieces == _LINE_END:
            end_line()
            continue
        length = width_of(pieces)
        if pieces[0][0].isspace():
            if used > (rest if lines else 0) or not lines:
                pending.extend(pieces)
            continue
        gap = width_of(pending)
        if used + gap + length <= width:
            current.extend(pending)
            pending.clear()
            current.extend(pieces)
            used += gap + length
            continue
        if used > (rest if lines else 0):
            end_line()
        pending.clear()
        for text, role in pieces:
            for part in _broken(text, width - used, width - rest):
                if used + cell_len(part) > width:
                    end_line()
                current.append((part, role))
                used += cell_len(part)
    lines.append(_joined(current))
    return lines


def _words(spans: Iterable[Span]) -> Iterable[list[Span]]:
    """Runs of non-space, runs of space, and line ends; a run may cross spans."""
    run: list[Span] = []
    run_is_space = False
    for text, role in spans:
        start = 0
        for position, character in enumerate(text):
            if character == "\n":
                if position > start:
                    run.append((text[start:position], role))
                if run:
                    yield run
                    run = []
                yield _LINE_END
                start = position + 1
                continue
            is_space = character == " "
            if is_space != run_is_space and (run or position > start):
                if position > start:
                    run.append((text[start:position], role))
                    start = position
                if run:
                    yield run
                    run = []
            run_is_space = is_space
        if start < len(text):
            run.append((text[start:], role))
    if run:
        yield run


def _broken(text: str, first: int, width: int) -> Iterable[str]:
    """A word cut into parts of at most ``first``, then ``width`` cells."""
    room = max(first, 0)
    part: list[str] = []
    used = 0
    for character in text:
        cells = cell_len(character)
        if used + cells > room and (part or room < width):
            if part:
                yield "".join(part)
            part = []
            used = 0
            room = width
        part.append(character)
        used += cells
    if part:
        yield "".join(part)


def _joined(spans: Sequence[Span]) -> Line:
    """Neighbours of one role as one span."""
    joined: list[Span] = []
    for text, role in spans:
        if joined and joined[-1][1] == role:
            joined[-1] = (joined[-1][0] + text, role)
        else:
            joined.append((text, role))
    return tuple(joined)

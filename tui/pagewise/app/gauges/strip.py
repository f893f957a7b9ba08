"""Bars and histories made of text: block elements in eighths, braille in two columns of four dots."""

from __future__ import annotations

from collections.abc import Sequence

from pagewise.app.spans import Line, Span

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"
_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
"""Braille dots filled from below, for 0 to 4 of them."""
_QUIET = frozenset(chr(0x2800 + left + right) for left in _LEFT[:2] for right in _RIGHT[:2])


def bar(share: float, width: int, role: str) -> Line:
    """A bar of ``share`` (0 to 1) over ``width`` cells, in eighths; what is left is faint."""
    eighths = max(0, min(round(share * width * 8), width * 8))
    if share > 0:
        eighths = max(eighths, 1)
    full, part = divmod(eighths, 8)
    text = "█" * full + (EIGHTHS[part] if part else "")
    rest = width - len(text)
    return _spans((text, role), ("╌" * rest, "faint"))


def stacked(parts: Sequence[tuple[float, str, str]], width: int) -> Line:
    """Parts as (share, glyph, role) side by side over ``width`` cells; what is left is faint.

    A part that is not nothing gets one cell at least, and sums are rounded so that no part drifts.
    """
    cells: list[Span] = []
    used = 0
    total = 0.0
    for share, glyph, role in parts:
        total += max(share, 0.0)
        end = min(width, round(total * width))
        length = end - used
        if share > 0 and length < 1 and used < width:
            length = 1
        if length > 0:
            cells.append((glyph * length, role))
            used += length
    cells.append(("╌" * (width - used), "faint"))
    return _spans(*cells)


def braille(values: Sequence[float | None], width: int, rows: int, top: float) -> list[str]:
    """A history of ``rows`` lines of ``width`` cells, the newest value at the right edge; ``top`` fills the height.

    A value of 0 is a dot on the base line, above 0 it is two at least, so that a trickle is not taken for silence;
    what is not known is blank.
    """
    newest = list(values)[-2 * width :]
    shown: list[float | None] = [*[None] * (2 * width - len(newest)), *newest]
    height = 4 * rows
    dots = [
        0 if value is None else 1 if value <= 0 or top <= 0 else max(2, min(height, round(height * value / top)))
        for value in shown
    ]
    lines: list[str] = []
    for row in range(rows):
        base = 4 * (rows - 1 - row)
        cells = []
        for column in range(width):
            left = max(0, min(4, dots[2 * column] - base))
            right = max(0, min(4, dots[2 * column + 1] - base))
            cells.append(chr(0x2800 + _LEFT[left] + _RIGHT[right]))
        lines.append("".join(cells))
    return lines


def coloured(history: str, role: str) -> Line:
    """A line of a history: what is only base line, or nothing, is faint."""
    return merged([(cell, "faint" if cell in _QUIET else role) for cell in history])


def level(value: float, top: float) -> str:
    """One of eight heights."""
    return LEVELS[max(0, min(7, round(8 * value / top) - 1))] if top > 0 else LEVELS[0]


def merged(cells: Sequence[Span]) -> Line:
    """Neighbouring cells of one role as one span."""
    return _spans(*cells)


def _spans(*spans: Span) -> Line:
    joined: list[Span] = []
    for text, role in spans:
        if not text:
            continue
        if joined and joined[-1][1] == role:
            joined[-1] = (joined[-1][0] + text, role)
        else:
            joined.append((text, role))
    return tuple(joined)

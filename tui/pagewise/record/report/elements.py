"""Pieces of the page that many parts of it are made from. All text that comes from elsewhere goes through ``text``."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pagewise.app.visible import visible_line


def text(value: str) -> str:
    """Words as they are, for a page and for the eye: neither markup nor control characters act."""
    return escape(visible_line(value))


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names with their values."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows) + "</dl>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int]) -> str:
    """A table; ``numbers`` are the columns that hold figures."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if column in numbers else ''}>{text(cell)}</{tag}>" for column, cell in enumerate(row)
        )

    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>{lines}</tbody></table></div>'

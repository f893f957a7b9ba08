"""Markdown as lines of spans: laid out once for each finished block, and again only for the block still being written.

Not Textual's Markdown widget, which makes a widget of every block: at 20 tokens a second it alone took 15 % of a core
and wrote 2.7 kB a token, where the whole chat with its gauges takes 6 % and writes 0.2 kB this way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from rich.cells import cell_len

from pagewise.app.code import highlighted
from pagewise.app.spans import BLANK, Line, Span, clip, fill, indent, plain, width_of, wrap

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

_BULLETS = ("•", "◦", "▪")
_SPACE = re.compile(r"[ \t\n]+")
_NARROWEST = 6
"""Cells that a table's column keeps when the table must shrink."""


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class MarkdownLines:
    """One document that grows at its end. ``lines(width)`` is always that of the whole text so far."""

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._width = 0
        self._settled: list[Line] = []
        self._settled_to = 0
        self._tail: list[Line] = []
        self._tail_of = -1

    def extend(self, text: str) -> None:
        """Append text."""
        self._text += text

    def lines(self, width: int) -> list[Line]:
        """The lines at this width, in cells."""
        if width != self._width:
            self._width = width
            self._settled, self._settled_to, self._tail_of = [], 0, -1
        if self._tail_of != len(self._text):
            self._lay_out()
        if self._settled and self._tail:
            return [*self._settled, BLANK, *self._tail]
        return self._settled or self._tail

    def finish(self) -> None:
        """The text is complete: lay it out as a whole once more, so that nothing depends on how it arrived."""
        self._settled, self._settled_to, self._tail_of = [], 0, -1

    def _lay_out(self) -> None:
        from markdown_it.tree import SyntaxTreeNode

        rest = self._text[self._settled_to :]
        blocks = SyntaxTreeNode(_parser().parse(rest)).children
        self._tail_of = len(self._text)
        if not blocks:
            self._tail = []
            return
        finished = _blocks(blocks[:-1], self._width, 0)
        if finished:
            self._settled += [BLANK, *finished] if self._settled else finished
        last = blocks[-1]
        if last.map is not None and len(blocks) > 1:
            self._settled_to += _offset_of_line(rest, last.map[0])
        self._tail = _blocks([last], self._width, 0)


def _offset_of_line(text: str, number: int) -> int:
    offset = 0
    for _ in range(number):
        offset = text.index("\n", offset) + 1
    return offset


def _blocks(nodes: Sequence[SyntaxTreeNode], width: int, depth: int, tight: bool = False) -> list[Line]:
    """Blocks one below the other, with a blank line between them unless ``tight``."""
    lines: list[Line] = []
    for node in nodes:
        block = _block(node, width, depth)
        if lines and block and not tight:
            lines.append(BLANK)
        lines += block
    return lines


def _block(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    match node.type:
        case "paragraph":
            return wrap(_inline(node, "text"), width)
        case "heading":
            return wrap(_inline(node, "heading" if node.tag in ("h1", "h2") else "strong"), width)
        case "bullet_list" | "ordered_list":
            return _list(node, width, depth)
        case "blockquote":
            return indent(_blocks(node.children, width - 2, depth), ("▎ ", "muted"))
        case "fence" | "code_block":
            return _code(node.content, node.info.split(maxsplit=1)[0] if node.info.strip() else "", width)
        case "table":
            return _table(node, width)
        case "hr":
            return [(("─" * min(width, 24), "faint"),)]
        case _:
            return wrap(((node.content, "text"),), width)


def _code(text: str, language: str, width: int) -> list[Line]:
    """Code behind a quiet line at its left; lines that are too long go on in the next one."""
    lines: list[Line] = []
    room = max(width - 2, 1)
    for code_line in highlighted(text.rstrip("\n"), language):
        rest = list(code_line)
        while width_of(rest) > room:
            head, rest = _cut(rest, room - 1)
            lines.append((("│ ", "faint"), *head, ("↩", "faint")))
        lines.append((("│ ", "faint"), *rest))
    return lines


def _cut(spans: Sequence[Span], width: int) -> tuple[list[Span], list[Span]]:
    """Spans before and after a place, which lies at most ``width`` cells from the start and never at the start."""
    head: list[Span] = []
    used = 0
    for index, (text, role) in enumerate(spans):
        for position, character in enumerate(text):
            cells = cell_len(character)
            if used + cells > width and (head or position):
                if position:
                    head.append((text[:position], role))
                return head, [(text[position:], role), *spans[index + 1 :]]
            used += cells
        head.append((text, role))
    return head, []


def _list(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    ordered = node.type == "ordered_list"
    start = int(node.attrs.get("start", 1)) if ordered else 1
    tight = all(child.hidden for item in node.children for child in item.children if child.type == "paragraph")
    size = len(f"{start + len(node.children) - 1}. ") if ordered else 2
    lines: list[Line] = []
    for number, item in enumerate(node.children, start):
        mark = f"{number}. ".rjust(size) if ordered else f"{_BULLETS[depth % len(_BULLETS)]} "
        body = _blocks(item.children, max(width - size, 1), depth + 1, tight) or [BLANK]
        if lines and not tight:
            lines.append(BLANK)
        lines.append(((mark, "accent"), *body[0]))
        lines += [((" " * size, "text"), *one) if one else BLANK for one in body[1:]]
    return lines


def _table(node: SyntaxTreeNode, width: int) -> list[Line]:
    rows: list[list[tuple[list[Span], str]]] = []
    heads = 0
    for part in node.children:
        for row in part.children:
            role = "strong" if part.type == "thead" else "text"
            heads += part.type == "thead"
            rows.append([(_inline(cell, role), str(cell.attrs.get("style", ""))) for cell in row.children])
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        return []
    natural = [
        max((width_of(row[column][0]) for row in rows if column < len(row)), default=0) for column in range(columns)
    ]
    widths = _shrunk(natural, width - 2 * (columns - 1))
    lines: list[Line] = []
    for index, cells_of_row in enumerate(rows):
        cells = [wrap(content, widths[column]) for column, (content, _) in enumerate(cells_of_row)]
        for level in range(max((len(cell) for cell in cells), default=1)):
            spans: list[Span] = []
            for column, cell in enumerate(cells):
                if column:
                    spans.append(("  ", "text"))
                content = cell[level] if level < len(cell) else BLANK
                spans += _aligned(content, widths[column], cells_of_row[column][1])
            lines.append(clip(spans, width))
        if index == heads - 1:
            lines.append(clip([("─" * (sum(widths) + 2 * (columns - 1)), "faint")], width, "─"))
    return lines


def _aligned(content: Line, width: int, style: str) -> Line:
    missing = width - width_of(content)
    if "right" in style:
        return ((" " * missing, "text"), *content) if missing > 0 else content
    if "center" in style and missing > 1:
        return fill((((" " * (missing // 2)), "text"), *content), width)
    return fill(content, width)


def _shrunk(natural: list[int], room: int) -> list[int]:
    """Column widths that fit: the widest give way first, none below a few cells."""
    widths = [max(width, 1) for width in natural]
    while sum(widths) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        others = [width for index, width in enumerate(widths) if index != widest]
        over = sum(widths) - room
        step = max(1, min(over, widths[widest] - max([_NARROWEST, *others])))
        widths[widest] -= step
    return widths


def _inline(node: SyntaxTreeNode, role: str) -> list[Span]:
    """Inline content of a block as spans."""
    spans: list[Span] = []
    for child in node.children:
        match child.type:
            case "inline":
                spans += _inline(child, role)
            case "text":
                spans.append((_SPACE.sub(" ", child.content), role))
            case "softbreak":
                spans.append((" ", role))
            case "hardbreak":
                spans.append(("\n", role))
            case "code_inline":
                spans.append((child.content, f"{role} code" if role != "text" else "code"))
            case "strong":
                spans += _inline(child, f"{role} strong")
            case "em":
                spans += _inline(child, f"{role} em")
            case "s":
                spans += _inline(child, f"{role} strike")
            case "link":
                shown = _inline(child, f"{role} link")
                spans += shown
                target = str(child.attrs.get("href", ""))
                if target and target != plain(shown):
                    spans.append((f" ({target})", "muted"))
            case "image":
                spans.append((f"[image: {child.content}]", "muted"))
            case _:
                spans.append((child.content, role))
    return [span for span in spans if span[0]]

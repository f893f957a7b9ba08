"""Code in a reply, coloured: few colours, because code has structure enough."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from pagewise.app.spans import Span

if TYPE_CHECKING:
    from pygments.lexer import Lexer  # type: ignore[import-untyped]

_LANGUAGE = re.compile(r"[\w+#.-]{1,40}")
_LONGEST = 100_000
"""Characters beyond which code is not coloured: it would be lexed again with every line that arrives."""


def highlighted(text: str, language: str) -> list[list[Span]]:
    """The lines of a piece of code as spans. Without a language, or with one that is not known, it is plain."""
    lexer = _lexer(language.lower()) if language and len(text) <= _LONGEST else None
    if lexer is None:
        return [[(line, "code")] if line else [] for line in text.split("\n")]
    lines: list[list[Span]] = [[]]
    for _, token, value in lexer.get_tokens_unprocessed(text):
        role = _role(str(token))
        for index, part in enumerate(value.split("\n")):
            if index:
                lines.append([])
            if part:
                lines[-1].append((part, role))
    return lines


@lru_cache(64)
def _lexer(language: str) -> Lexer | None:
    if not _LANGUAGE.fullmatch(language):
        return None
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
    from pygments.util import ClassNotFound  # type: ignore[import-untyped]

    try:
        return get_lexer_by_name(language)
    except ClassNotFound:
        return None


@lru_cache(512)
def _role(token: str) -> str:
    """From ``Token.Literal.String.Double`` to a role."""
    if ".Comment" in token:
        return "comment"
    if ".Keyword" in token or ".Operator.Word" in token:
        return "keyword"
    if ".String" in token:
        return "string"
    if ".Number" in token:
        return "number"
    if ".Function" in token or ".Class" in token or ".Name.Tag" in token:
        return "strong"
    return "text"

"""On which line of a TOML text a key stands: the parser says what is there, not where."""

from __future__ import annotations

import re

import tomli

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"""\s*((?:"[^"\n]*"|'[^'\n]*'|[^=#"'\s\[][^=#\n]*?))\s*=""")
_MAX_CHECKS = 20


def key_line(text: str, key: str) -> int | None:
    """The 1-based line at which the dotted ``key`` is set (or its table begins), or None if it cannot be found.

    A line is taken only where the text before it is whole TOML: so a look-alike within a long string is passed over.
    """
    table = ""
    lines = text.split("\n")
    checks = 0
    for index, line in enumerate(lines):
        header = _HEADER.match(line)
        assignment = None if header else _ASSIGNMENT.match(line)
        if header:
            found = _plain(header[1])
        elif assignment:
            found = ".".join(part for part in (table, _plain(assignment[1])) if part)
        else:
            continue
        if found == key or (assignment and key.startswith(found + ".") and "{" in line):
            checks += 1
            if checks > _MAX_CHECKS:
                return None
            if _whole("\n".join(lines[:index])):
                return index + 1
        if header:
            table = found
    return None


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _whole(text: str) -> bool:
    try:
        tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError, ValueError):
        return False
    return True

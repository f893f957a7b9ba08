"""Text from models, files and servers as something that can be seen and never acts on the terminal."""

from __future__ import annotations

from pathlib import Path

_SPOOFS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_TABLE: dict[int, str | None] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "\u2421",
    **dict.fromkeys(range(128, 160), "�"),
    **{ord(character): "\ufffd" for character in _SPOOFS},
    **dict.fromkeys(range(55296, 57344), "�"),
    ord("\n"): "\n",
    ord("\t"): "    ",
    0x2028: "\n",
    0x2029: "\n",
}


def visible(text: str) -> str:
    """The text with each control character as its picture (``␛`` for escape) and line ends as ``\\n``.

    Tabs become spaces; C1 controls, lone surrogates and direction overrides, which have no picture, become ``\\ufffd``.
    """
    return text.replace("\r\n", "\n").translate(_TABLE)


def visible_line(text: str) -> str:
    """The same on one line: line ends are shown as ``␊``."""
    return visible(text).replace("\n", "\u240a")


def at_home(path: Path) -> str:
    """A path on one line, the home folder as ``~``."""
    try:
        return visible_line(f"~/{path.relative_to(Path.home())}")
    except (ValueError, RuntimeError):
        return visible_line(str(path))

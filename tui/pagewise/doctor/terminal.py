"""What the terminal can show."""

from __future__ import annotations

import locale
import os
import shutil
import sys
from collections.abc import Mapping

from pagewise.app.visible import visible_line
from pagewise.doctor.findings import Finding

_ROOMY = (80, 24)


def findings(environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Kind, colours, size and character set of the terminal that this runs in."""
    env = os.environ if environment is None else environment
    return [_kind(env), _colours(env), _size(), _characters(), *_between(env)]


def _kind(env: Mapping[str, str]) -> Finding:
    term = visible_line(env.get("TERM", ""))
    if not sys.stdout.isatty():
        return Finding("terminal", "kind", "note", f"standard output is not a terminal (TERM={term or 'not set'})")
    if term in ("", "dumb", "unknown"):
        fix = "export TERM=xterm-256color, if your terminal is anything like that."
        return Finding(
            "terminal", "kind", "fail", f"TERM={term or 'not set'}: nothing can be placed on the screen", fix
        )
    return Finding("terminal", "kind", "ok", f"TERM={term}")


def _colours(env: Mapping[str, str]) -> Finding:
    if env.get("NO_COLOR"):
        return Finding("terminal", "colours", "note", "none, since NO_COLOR is set", "unset NO_COLOR for colours.")
    if env.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Finding("terminal", "colours", "ok", "16 million")
    if "256" in env.get("TERM", ""):
        return Finding("terminal", "colours", "ok", "256", "export COLORTERM=truecolor, if your terminal has them.")
    return Finding(
        "terminal", "colours", "note", "16", "The theme `terminal` is made for these; TERM=xterm-256color offers more."
    )


def _size() -> Finding:
    columns, lines = shutil.get_terminal_size()
    small = columns < _ROOMY[0] or lines < _ROOMY[1]
    fix = "80x24 is the least with all gauges in view; 120x40 shows them beside the chat." if small else ""
    return Finding("terminal", "size", "note" if small else "ok", f"{columns}x{lines}", fix)


def _characters() -> Finding:
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") == "utf8":
        return Finding("terminal", "characters", "ok", "UTF-8: blocks and braille for the gauges")
    fix = "export LC_ALL=C.UTF-8 (or another locale that ends in UTF-8)."
    return Finding("terminal", "characters", "warn", f"{encoding}: gauges need UTF-8", fix)


def _between(env: Mapping[str, str]) -> list[Finding]:
    ways = [name for name, key in (("tmux", "TMUX"), ("screen", "STY"), ("ssh", "SSH_CONNECTION")) if env.get(key)]
    if not ways:
        return []
    fix = "tmux: `set -g default-terminal tmux-256color` and `set -sg escape-time 10`." if "tmux" in ways else ""
    return [Finding("terminal", "by way of", "note", ", ".join(ways), fix)]

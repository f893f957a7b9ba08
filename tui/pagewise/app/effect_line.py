"""The effect of a switch as one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pagewise.app.effect import Effect, Figures
from pagewise.app.figures import duration, rate, size
from pagewise.app.spans import Line, clip, line, width_of
from pagewise.app.visible import visible_line

Value = TypeVar("Value")

_LEAST_NAME = 16
_ARROW = " → "


def draw_effect(effect: Effect, width: int) -> Line:
    """From which profile to which, and each figure before and after.

    Where there is no room, first the blanks around arrows go, then the former profile's name, then what has not
    changed, then what matters least.
    """
    before, after = effect.before, effect.after
    figures = [
        ("TTFT", _pair(duration, before.ttft_ms, after.ttft_ms), " cold" if after.cold else ""),
        ("TPOT", _pair(duration, before.tpot_ms, after.tpot_ms), ""),
        ("VRAM", _pair(size, before.vram_bytes, after.vram_bytes), ""),
        ("page-in", _pair(rate, before.page_in_bytes_s, after.page_in_bytes_s), ""),
        ("RAM", _pair(size, before.ram_bytes, after.ram_bytes), ""),
    ]
    named = [(name, pair, more) for name, pair, more in figures if pair]
    least = sorted(range(len(named)), key=lambda index: (_has_changed(named[index][1]), -index))
    parts = _parts(named, _ARROW)
    if _room(parts, width) < len(before.profile) + len(after.profile) + len(_ARROW):
        parts = _parts(named, "→")
    for index in least:
        if _room(parts, width) >= min(len(after.profile), _LEAST_NAME):
            break
        parts[index] = ()
    room = max(1, _room(parts, width))
    found = line(("┄ ", "faint"), (_names(before, after, room), "strong"))
    return clip((*found, *(span for part in parts for span in part)), width)


def _parts(named: list[tuple[str, str, str]], arrow: str) -> list[Line]:
    return [line((f"  {name} ", "muted"), pair.replace(_ARROW, arrow), (more, "muted")) for name, pair, more in named]


def _room(parts: list[Line], width: int) -> int:
    """Cells that are left for the names."""
    return width - 2 - sum(width_of(part) for part in parts)


def _has_changed(pair: str) -> bool:
    old, arrow, new = pair.partition(_ARROW)
    return not arrow or old != new.partition(" ")[0]


def _names(before: Figures, after: Figures, room: int) -> str:
    """Both, or the new one alone where there is no room."""
    old, new = visible_line(before.profile), visible_line(after.profile)
    if old == new or not old:
        return _cut(f"{new} changed", room)
    return next((both for both in (f"{old}{_ARROW}{new}", f"{old}→{new}") if len(both) <= room), _cut(new, room))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _pair(draw: Callable[[Value], str], before: Value | None, after: Value | None) -> str:
    """``312 → 290 ms``: the unit once where it is the same; the new one alone where there is no former."""
    if after is None:
        return ""
    new = draw(after)
    if before is None:
        return new
    old = draw(before)
    value, _, unit = old.partition(" ")
    return f"{value if new.partition(' ')[2] == unit else old}{_ARROW}{new}"

"""From the roles of spans to styles: one theme's colours, as the terminal will get them."""

from __future__ import annotations

import colorsys

from rich.color import Color
from rich.style import Style

HEAT_STEPS = 5
HUES = 7
_EIGHT = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
ANSI_NAMES = (*_EIGHT, *(f"bright_{name}" for name in _EIGHT), "default")
ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse", "strike")

_ROLES: dict[str, tuple[str, str]] = {
    # role: the theme's colour, and attributes on top of it
    "text": ("text", ""),
    "muted": ("muted", ""),
    "faint": ("faint", ""),
    "accent": ("accent", ""),
    "warn": ("warning", ""),
    "strong": ("", "bold"),
    "em": ("", "italic"),
    "strike": ("", "strike"),
    "link": ("", "underline"),
    "code": ("code", ""),
    "heading": ("accent", "bold"),
    "label": ("muted", "bold"),
    "value": ("text", "bold"),
    "chosen": ("", "reverse"),
    "keyword": ("accent", ""),
    "string": ("code", ""),
    "number": ("accent", ""),
    "comment": ("muted", "italic"),
}


class ColourError(ValueError):
    """A colour that no theme may have, with the reason in words."""


def parse_style(value: str) -> Style:
    """A theme's value: attributes and at most one colour, such as ``bold cyan`` or ``#5fc9c0``. Raises ColourError."""
    style = Style()
    for word in value.split():
        if word in ATTRIBUTES:
            style += Style.parse(word)
        elif word in ANSI_NAMES:
            style += Style(color=Color.default() if word == "default" else Color.parse(word))
        elif word.startswith("#") and len(word) == 7 and all(digit in "0123456789abcdefABCDEF" for digit in word[1:]):
            style += Style(color=Color.parse(word.lower()))
        else:
            raise ColourError(
                f"{word!r} is no colour: it must be #rrggbb, one of the terminal's 16 names, "
                f"or one of {', '.join(ATTRIBUTES)}"
            )
    return style


def blend(first: str, second: str, share: float) -> str:
    """``#rrggbb`` between two others; ``share`` 0 is the first."""
    one, two = (tuple(int(value[index : index + 2], 16) for index in (1, 3, 5)) for value in (first, second))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(one, two, strict=True))


def hue(accent: str, index: int) -> str:
    """One of HUES colours as strong as a theme's accent: its neighbours on the colour wheel, or the terminal's own."""
    colour = parse_style(accent).color
    if colour is None or colour.triplet is None or not accent.startswith("#"):
        return _EIGHT[1:][(index + 5) % 7]
    turn, _, strength = colorsys.rgb_to_hls(*colour.triplet.normalized)
    wanted = _luminance(colour.triplet.normalized)
    low, high = 0.0, 1.0
    # Blue is darker than yellow of the same lightness: what is written on them must be as legible on each.
    for _ in range(10):
        light = (low + high) / 2
        rgb = colorsys.hls_to_rgb((turn + index / HUES) % 1.0, light, max(strength, 0.3))
        low, high = (light, high) if _luminance(rgb) < wanted else (low, light)
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)


def _luminance(rgb: tuple[float, float, float]) -> float:
    """Relative luminance of an sRGB colour, as in WCAG."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class Palette:
    """Styles of one theme. ``no_colour`` keeps only attributes, for NO_COLOR."""

    def __init__(self, colours: dict[str, str], heat: tuple[str, ...], no_colour: bool = False) -> None:
        self._colours = colours
        self._no_colour = no_colour
        self._heat = heat
        self._styles: dict[str, Style] = {}

    def style(self, role: str) -> Style:
        """The style of a role; unknown words are a programming error and raise KeyError."""
        style = self._styles.get(role)
        if style is None:
            style = Style()
            for word in role.split():
                style += self._word(word)
            if self._no_colour:
                style = without_colour(style)
            self._styles[role] = style
        return style

    def _word(self, word: str) -> Style:
        if word.startswith("heat"):
            step = int(word[4:])
            if self._no_colour:
                return Style(dim=step == 0, bold=step >= HEAT_STEPS - 2)
            return parse_style(self._heat[step])
        if word.startswith("hue"):
            return Style() if self._no_colour else parse_style(hue(self._colours["accent"], int(word[3:])))
        colour, attributes = _ROLES[word]
        style = parse_style(self._colours[colour]) if colour else Style()
        if self._no_colour and colour in _NO_COLOUR:
            style = parse_style(_NO_COLOUR[colour])
        return style + parse_style(attributes)


_NO_COLOUR = {"muted": "dim", "faint": "dim", "accent": "bold", "warning": "bold underline"}
"""What stands for a colour where there is none."""


def without_colour(style: Style) -> Style:
    """The same attributes, without any colour: nothing of it becomes a colour code."""
    return Style(
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        reverse=style.reverse,
        strike=style.strike,
        meta=style.meta or None,
    )

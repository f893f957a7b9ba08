"""Themes: TOML files that ship and the user's own, and how they become colours.

A theme names few colours, because few are used: neutrals, one accent, one warning. Values are ``#rrggbb``, or one of
the terminal's 16 names, or attributes (``dim``, ``bold cyan``); with ``ansi = true`` nothing else than the latter two.
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import tomli
from msgspec import Struct

from pagewise.app.palette import HEAT_STEPS, ColourError, Palette, blend, parse_style
from pagewise.app.visible import visible_line
from pagewise.messages import Failure

if TYPE_CHECKING:
    from importlib.abc import Traversable

    from textual.theme import Theme as TextualTheme

DEFAULT = "dark"
TERMINAL = "terminal"
ORDER = ("dark", "light", "contrast", "terminal")


class Colours(Struct, frozen=True, forbid_unknown_fields=True):
    """The colours of a theme."""

    text: str
    muted: str
    faint: str
    accent: str
    warning: str
    code: str
    background: str = "default"
    surface: str = "default"
    heat: tuple[str, ...] = ()
    """Five steps from fast to slow for the layer strip; blended from muted, accent and warning if absent."""


class Theme(Struct, frozen=True, forbid_unknown_fields=True):
    """One theme. ``ansi``: only the terminal's own 16 colours are used, and its own background."""

    colours: Colours
    name: str = ""
    description: str = ""
    dark: bool = True
    ansi: bool = False

    def palette(self, no_colour: bool = False) -> Palette:
        """Styles for painting."""
        colours = self.colours
        named = {name: getattr(colours, name) for name in ("text", "muted", "faint", "accent", "warning", "code")}
        return Palette(named, self._heat(), no_colour)

    def _heat(self) -> tuple[str, ...]:
        colours = self.colours
        if colours.heat:
            return colours.heat
        middle = HEAT_STEPS // 2
        cold = [blend(colours.muted, colours.accent, step / middle) for step in range(middle)]
        hot = [blend(colours.accent, colours.warning, step / middle) for step in range(middle + 1)]
        return (*cold, *hot)

    def textual(self) -> TextualTheme:
        """The same for Textual's own widgets: the prompt, filters, the palette of commands."""
        from textual.theme import Theme as TextualTheme

        def bare(value: str) -> str:
            colour = parse_style(value).color
            if colour is None or colour.is_default:
                return "ansi_default" if self.ansi else self.colours.text
            return f"ansi_{colour.name}" if colour.triplet is None else colour.triplet.hex

        text, muted, faint = bare(self.colours.text), bare(self.colours.muted), bare(self.colours.faint)
        accent, warning = bare(self.colours.accent), bare(self.colours.warning)
        background = "ansi_default" if self.ansi else bare(self.colours.background)
        surface = "ansi_default" if self.ansi else bare(self.colours.surface)
        return TextualTheme(
            name=f"pagewise-{self.name}",
            primary=accent,
            secondary=muted,
            accent=accent,
            warning=warning,
            error=warning,
            success=accent,
            foreground=text,
            background=background,
            surface=surface,
            panel=surface,
            boost=surface,
            dark=self.dark,
            ansi=self.ansi,
            variables={
                "ansi-background": background if self.ansi else "transparent",
                "ansi-foreground": text if self.ansi else "transparent",
                "pw-muted": muted,
                "pw-faint": faint,
                "border": faint,
                "border-blurred": faint,
                "text": text,
                "text-muted": muted,
                "text-disabled": muted,
                "block-cursor-foreground": background if not self.ansi else "ansi_default",
                "block-cursor-background": accent,
                "block-cursor-text-style": "bold",
                "input-cursor-background": accent,
                "input-cursor-foreground": background,
                "input-cursor-text-style": "reverse" if self.ansi else "none",
                "input-selection-background": faint,
                "screen-selection-background": faint,
                "screen-selection-foreground": text,
                "scrollbar": faint,
                "scrollbar-hover": muted,
                "scrollbar-active": accent,
                "scrollbar-background": background,
                "scrollbar-background-hover": background,
                "scrollbar-background-active": background,
                "scrollbar-corner-color": background,
            },
        )


class ThemeSet(Struct, frozen=True):
    """Every theme that could be read, in the order in which a key steps through them; what is wrong with others."""

    themes: dict[str, Theme]
    failures: tuple[Failure, ...]

    def get(self, name: str | None) -> Theme:
        """The theme of that name, or the default one."""
        return self.themes.get(name or DEFAULT) or self.themes[DEFAULT]

    def after(self, name: str) -> Theme:
        """The next one."""
        names = list(self.themes)
        return self.themes[names[(names.index(name) + 1) % len(names)] if name in names else DEFAULT]


def shipped_themes() -> Traversable | Path:
    """The folder of the themes that ship: inside the installed package, or of the checkout."""
    packaged = resources.files("pagewise") / "shipped" / "themes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "themes"


def user_themes() -> Path:
    """The folder of the user's own themes, which need not exist."""
    from platformdirs import user_config_path

    return user_config_path("pagewise") / "themes"


def load_themes(user: Path | None = None) -> ThemeSet:
    """All themes; the user's own replace shipped ones of the same name. A broken one is reported and left out."""
    found: dict[str, Theme] = {}
    failures: list[Failure] = []
    for folder in (shipped_themes(), user if user is not None else user_themes()):
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if not file.name.endswith(".toml"):
                continue
            name = file.name.removesuffix(".toml")
            try:
                found[name] = parse_theme(file.read_bytes(), name)
            except (OSError, ThemeError) as error:
                failures.append(
                    Failure(
                        f"The theme {visible_line(name)} cannot be used.",
                        f"{visible_line(str(file))}: {visible_line(str(error))}",
                        "Correct the file, then start pagewise again; the other themes work.",
                    )
                )
    first = [name for name in ORDER if name in found]
    others = [name for name in found if name not in ORDER]
    return ThemeSet({name: found[name] for name in first + others}, tuple(failures))


class ThemeError(ValueError):
    """A file that is no theme, with the reason in words."""


def parse_theme(data: bytes, name: str) -> Theme:
    """The theme in a TOML file's bytes. Raises ThemeError naming the key and the nearest valid one."""
    try:
        table = tomli.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomli.TOMLDecodeError, RecursionError) as error:
        raise ThemeError(f"not valid TOML: {error}") from error
    colours = table.get("colours")
    _check_keys(table, [key for key in Theme.__struct_fields__ if key != "name"], "")
    if isinstance(colours, dict):
        _check_keys(colours, Colours.__struct_fields__, "colours.")
    try:
        theme = msgspec.structs.replace(msgspec.convert(table, Theme), name=name)
    except msgspec.ValidationError as error:
        raise ThemeError(str(error)) from error
    for field in Colours.__struct_fields__:
        value = getattr(theme.colours, field)
        try:
            styles = [parse_style(one) for one in (value if isinstance(value, tuple) else (value,))]
        except ColourError as error:
            raise ThemeError(f"colours.{field}: {error}") from error
        has_rgb = any(style.color is not None and style.color.triplet is not None for style in styles)
        if theme.ansi and has_rgb:
            raise ThemeError(f"colours.{field}: a theme with ansi = true uses only the terminal's 16 names")
        if not theme.ansi and not all(style.color is not None and style.color.triplet for style in styles):
            raise ThemeError(f"colours.{field}: must have a colour as #rrggbb unless the theme says ansi = true")
    if len(theme.colours.heat) not in (0, HEAT_STEPS) or (theme.ansi and not theme.colours.heat):
        raise ThemeError(f"colours.heat: must be {HEAT_STEPS} colours from fast to slow")
    return theme


def _check_keys(table: dict[str, object], valid: list[str] | tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in valid:
            near = difflib.get_close_matches(key, valid, 1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; keys are {', '.join(valid)}"
            raise ThemeError(f"there is no key {prefix}{key}{hint}")

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from pagewise.app.palette import HEAT_STEPS, without_colour
from pagewise.app.themes import ThemeError, load_themes, parse_theme

OWN = '[colours]\nbackground = "#000000"\nsurface = "#000000"\ntext = "#ffffff"\nmuted = "#cccccc"\nfaint = "#888888"\n'
OWN += 'accent = "#00ffff"\nwarning = "#ffff00"\ncode = "#ffffff"\n'


def luminance(colour: str) -> float:
    def channel(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (channel(int(colour[index : index + 2], 16)) for index in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_four_ship_and_all_are_sound() -> None:
    found = load_themes()
    assert list(found.themes)[:4] == ["dark", "light", "contrast", "terminal"]
    assert found.failures == ()


@pytest.mark.parametrize(("name", "least"), [("dark", 4.5), ("light", 4.5), ("contrast", 7.0)])
def test_text_can_be_read_on_both_grounds(name: str, least: float) -> None:
    colours = load_themes().themes[name].colours
    for ground in (colours.background, colours.surface):
        for colour in (colours.text, colours.muted, colours.accent, colours.warning, colours.code):
            assert contrast(colour, ground) >= least


def test_the_terminal_theme_has_only_the_sixteen_colours() -> None:
    palette = load_themes().themes["terminal"].palette()
    for role in ("text", "muted", "accent", "warn", "code", *(f"heat{step}" for step in range(HEAT_STEPS))):
        colour = palette.style(role).color
        assert colour is None or colour.is_default or (colour.number is not None and colour.number < 16)


def test_without_colour_only_attributes_are_left() -> None:
    palette = load_themes().themes["dark"].palette(no_colour=True)
    for role in ("text", "accent", "warn", "strong accent", "heat4", "keyword"):
        style = palette.style(role)
        assert style.color is None and style.bgcolor is None
    assert palette.style("warn").underline
    assert without_colour(Style.parse("bold red on blue")) == Style(bold=True)


def test_the_users_own_theme_is_found_and_a_broken_one_is_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN)
    (tmp_path / "broken.toml").write_text(OWN.replace("accent", "acent"))
    found = load_themes(tmp_path)
    assert "mine" in found.themes and "dark" in found.themes
    [failure] = found.failures
    assert "broken" in failure.what
    assert "colours.acent" in failure.why and "colours.accent" in failure.why


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"#00ffff"', '"cyanish"'), "cyanish"),
        (('"#00ffff"', "3"), "accent"),
        (('text = "#ffffff"\n', ""), "text"),
        (('"#00ffff"', '"cyan"'), "#rrggbb"),
        (("[colours]", "ansi = true\n[colours]"), "16 names"),
        (("[colours]", "[colours"), "TOML"),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], said: str) -> None:
    with pytest.raises(ThemeError, match=said):
        parse_theme(OWN.replace(*change).encode(), "own")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_theme_or_a_typed_error(data: bytes) -> None:
    try:
        parse_theme(data, "own")
    except ThemeError as error:
        assert str(error)


def test_the_next_theme_after_the_last_is_the_first() -> None:
    found = load_themes()
    names = list(found.themes)
    assert found.after(names[-1]).name == names[0]
    assert found.get("no such theme").name == "dark"

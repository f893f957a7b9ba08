from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from pagewise.app.visible import visible, visible_line


def test_escape_sequences_are_pictures() -> None:
    assert visible("a\x1b[31mb\x07\x00") == "a␛[31mb␇␀"


def test_line_ends_and_tabs_stay_legible() -> None:
    assert visible("a\r\nb\tc") == "a\nb    c"
    assert visible_line("a\nb") == "a␊b"


@given(st.text(st.characters(codec=None)))
def test_nothing_that_acts_on_a_terminal_is_left(text: str) -> None:
    shown = visible(text)
    assert all(character == "\n" or unicodedata.category(character) not in ("Cc", "Cs") for character in shown)
    assert visible(shown) == shown

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pagewise.app.spans import clip, ends, fill, plain, width_of, wrap

TEXT = st.text(st.sampled_from("ab cdé漢字  \n…x"), max_size=60)
SPANS = st.lists(st.tuples(TEXT, st.sampled_from(["text", "muted"])), max_size=4)


@given(SPANS, st.integers(2, 30), st.integers(0, 4))
def test_wrapped_lines_fit_and_keep_every_word(spans: list[tuple[str, str]], width: int, rest: int) -> None:
    lines = wrap(spans, width, rest)
    assert lines
    assert all(width_of(line) <= width for line in lines)
    joined = "".join(plain(line) for line in lines)
    assert "".join(joined.split()) == "".join(plain(spans).split())


@given(TEXT.map(lambda text: text.replace("\n", " ")), st.integers(0, 30))
def test_clip_and_fill_never_exceed(text: str, width: int) -> None:
    clipped = clip(((text, "text"),), width)
    assert width_of(clipped) <= width
    assert width_of(fill(((text, "text"),), width)) == max(width_of(clipped), width)
    if cell_len(text) <= width:
        assert plain(clipped) == text


def test_clip_says_that_something_is_missing() -> None:
    assert plain(clip((("abcdef", "text"),), 4)) == "abc…"


def test_ends_gives_the_right_side_its_place() -> None:
    assert plain(ends((("name that is long", "text"),), (("41 ms", "value"),), 12)) == "name … 41 ms"
    assert plain(ends((("a", "text"),), (("41 ms", "value"),), 12)) == "a      41 ms"


def test_a_word_longer_than_the_line_is_broken() -> None:
    assert [plain(line) for line in wrap((("abcdefgh ij", "text"),), 4)] == ["abcd", "efgh", "ij"]


def test_wrapping_keeps_roles() -> None:
    assert wrap((("one ", "text"), ("two", "strong")), 3) == [(("one", "text"),), (("two", "strong"),)]

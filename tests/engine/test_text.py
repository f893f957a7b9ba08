"""Characters and stop strings over the borders of tokens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pagewise.engine.llamacpp.text import StreamedText, text_of


def streamed(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    text = StreamedText(stop)
    shown = []
    for piece in pieces:
        shown.append(text.feed(piece))
        if text.stopped:
            break
    return [*shown, text.end()], text.stopped


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = [0, *sorted(border % (len(data) + 1) for border in borders), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=12))
def test_any_cut_gives_the_text(text: str, borders: list[int]) -> None:
    shown, stopped = streamed(cut(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode(), borders))
    assert not stopped
    assert "".join(shown) == text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


@given(st.binary(max_size=40), st.lists(st.integers(0, 200), max_size=12))
def test_any_bytes_give_what_they_give_at_once(data: bytes, borders: list[int]) -> None:
    pieces = cut(data, borders)
    assert "".join(streamed(pieces)[0]) == text_of(pieces)


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_nothing_of_a_stop_string_is_shown(text: str, stop: list[str], borders: list[int]) -> None:
    shown, stopped = streamed(cut(text.encode(), borders), tuple(stop))
    joined = "".join(shown)
    assert text.startswith(joined)
    assert not any(entry in joined for entry in stop)
    assert stopped == any(entry in text for entry in stop)
    if not stopped:
        assert joined == text


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    text = StreamedText(("stop", "top!"))
    assert [text.feed(piece) for piece in (b"a st", b"ill", b" to", b"p", b"s")] == ["a ", "still", " ", "", "top"]


def test_half_a_character_waits() -> None:
    text = StreamedText()
    assert [text.feed(byte) for byte in (b"\xf0\x9f", b"\x98", b"\x80", b"!")] == ["", "", "\N{GRINNING FACE}", "!"]


def test_half_a_character_at_the_end_is_shown_as_damaged() -> None:
    text = StreamedText(("never",))
    assert text.feed(b"a\xf0\x9f") == "a"
    assert text.end() == "\N{REPLACEMENT CHARACTER}"

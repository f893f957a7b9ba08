from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app import scenes
from pagewise.app.markdown import MarkdownLines
from pagewise.app.spans import plain, width_of

FRAGMENTS = st.sampled_from(
    [
        "word ",
        "# head\n",
        "- item\n",
        "  - nested\n",
        "1. one\n",
        "\n",
        "\n\n",
        "```python\n",
        "```\n",
        "def f(): 1\n",
        "> q\n",
        "| a | b |\n",
        "|---|--:|\n",
        "| 1 | 2 |\n",
        "**bold** ",
        "`code` ",
        "~~gone~~ ",
        "---\n",
        "[t](http://x.y) ",
        "漢字 ",
        "    pre\n",
    ]
)


def shown(text: str, width: int = 60) -> list[str]:
    return [plain(line) for line in MarkdownLines(text).lines(width)]


@given(st.lists(FRAGMENTS, max_size=30), st.integers(8, 60))
def test_no_line_is_wider_than_asked_for_except_tables_that_cannot_shrink(parts: list[str], width: int) -> None:
    text = "".join(parts)
    lines = MarkdownLines(text).lines(width)
    assert all(width_of(line) <= width for line in lines)


@given(st.lists(FRAGMENTS, max_size=30))
def test_after_finishing_it_does_not_matter_how_the_text_arrived(parts: list[str]) -> None:
    streamed = MarkdownLines()
    for part in parts:
        streamed.extend(part)
        streamed.lines(40)
    streamed.finish()
    assert streamed.lines(40) == MarkdownLines("".join(parts)).lines(40)


def test_an_answer_streams_to_the_same_lines_token_by_token() -> None:
    streamed = MarkdownLines()
    for piece in scenes.pieces(scenes.ANSWER):
        streamed.extend(piece)
        streamed.lines(70)
    assert streamed.lines(70) == MarkdownLines(scenes.ANSWER).lines(70)


def test_code_keeps_its_indentation_and_is_coloured() -> None:
    lines = MarkdownLines("```python\nif a:\n    return 1\n```").lines(40)
    assert [plain(line) for line in lines] == ["│ if a:", "│     return 1"]
    assert ("return", "keyword") in lines[1]


def test_long_code_goes_on_in_the_next_line() -> None:
    lines = shown("```\n" + "x" * 25 + "\n```", 12)
    assert "".join(line.removeprefix("│ ").removesuffix("↩") for line in lines) == "x" * 25


def test_an_unknown_language_is_plain() -> None:
    assert shown("```nosuchlanguage\na < b\n```") == ["│ a < b"]


def test_table_columns_are_aligned() -> None:
    assert shown("| n | ms |\n|---|---:|\n| a | 9 |\n| bb | 32 |") == ["n   ms", "──────", "a    9", "bb  32"]


def test_lists_are_nested_and_numbered() -> None:
    assert shown("3. three\n4. four\n   - inner") == ["3. three", "4. four", "   ◦ inner"]


def test_html_is_text() -> None:
    assert shown("a <b>c</b>") == ["a <b>c</b>"]


def test_a_link_shows_where_it_leads() -> None:
    assert shown("[here](http://example.org)") == ["here (http://example.org)"]

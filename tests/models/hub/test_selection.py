from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.models.hub.selection import HubError, choose, offers, parse_reference


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/repo", ("org/repo", "")),
        (" org/repo:Q4_K_M ", ("org/repo", "Q4_K_M")),
        ("org/repo:sub/file.gguf", ("org/repo", "sub/file.gguf")),
        ("https://hub.example/org/repo", ("org/repo", "")),
        ("https://hub.example/org/repo/resolve/main/sub/a%20b.gguf", ("org/repo", "sub/a b.gguf")),
        ("https://hub.example/org/repo/blob/main/a.gguf?x=1", ("org/repo", "a.gguf")),
    ],
)
def test_what_a_reference_means(text: str, meant: tuple[str, str]) -> None:
    assert parse_reference(text) == meant


@pytest.mark.parametrize("text", ["", "repo", "a/b/c", "../x", "org/", "/repo", "org/re po", "https://hub.example/"])
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(HubError):
        parse_reference(text)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        repository, _ = parse_reference(text)
    except HubError as error:
        assert error.failure.what.isprintable()
    else:
        assert repository.count("/") == 1


def test_levels_are_told_by_names_with_parts_together_and_others_apart() -> None:
    listed = offers(
        {
            "m-Q4_K_M.gguf": 40,
            "m-UD-Q4_K_XL.gguf": 42,
            "BF16/m-BF16-00001-of-00002.gguf": 90,
            "BF16/m-BF16-00002-of-00002.gguf": 80,
            "Q8_0/m-00001-of-00002.gguf": 50,
            "mmproj-F16.gguf": 5,
            "imatrix_unsloth.dat": 1,
            "m.imatrix.gguf": 1,
            "README.md": 1,
        }
    )
    assert [(level.quant, level.bytes, len(level.files)) for level in listed.levels] == [
        ("Q4_K_M", 40, 1),
        ("UD-Q4_K_XL", 42, 1),
        ("BF16", 170, 2),
    ]
    assert listed.others == ("imatrix_unsloth.dat", "m.imatrix.gguf", "mmproj-F16.gguf")


def test_what_a_person_means_by_a_level() -> None:
    levels = offers({"a/x-Q4_0.gguf": 1, "b/y-Q4_0.gguf": 2, "z-Q8_0.gguf": 3}).levels
    chosen = choose("o/r", levels, "q8_0")
    assert chosen is not None and chosen.files == ("z-Q8_0.gguf",)
    by_file = choose("o/r", levels, "y-Q4_0.gguf")
    assert by_file is not None and by_file.files == ("b/y-Q4_0.gguf",)
    assert choose("o/r", levels, "") is None
    assert choose("o/r", levels[:1], "") == levels[0]
    with pytest.raises(HubError, match="more than once"):
        choose("o/r", levels, "Q4_0")
    with pytest.raises(HubError, match="no GGUF"):
        choose("o/r", (), "")

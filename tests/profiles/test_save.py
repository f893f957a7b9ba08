from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.profiles.errors import ProfileError
from pagewise.profiles.files import load_all
from pagewise.profiles.save import save

TEXT = """# why this is so
threads = 2   # measured
model = "/x.gguf"

[sampling]
# warm
temperature = 0.9
"""


def test_comments_and_order_stay(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    assert save("mine", {"threads": 4, "sampling.temperature": 0.5, "sampling.top_k": 3}, tmp_path) == path
    expected = TEXT.replace("threads = 2 ", "threads = 4 ").replace("0.9", "0.5") + "top_k = 3\n"
    assert path.read_text() == expected
    assert path.stat().st_mode & 0o777 == 0o640


def test_none_removes_a_key_and_a_new_profile_is_made(tmp_path: Path) -> None:
    save("new", {"n_ctx": 512, "sampling.seed": 3, "tensor_split": (1.0, 2.0)}, tmp_path / "folder")
    save("new", {"sampling.seed": None, "sampling.top_k": None}, tmp_path / "folder")
    profile = load_all(tmp_path / "folder").profiles["new"]
    assert (profile.n_ctx, profile.sampling.seed, profile.tensor_split) == (512, None, (1.0, 2.0))


def test_what_would_not_be_a_profile_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    with pytest.raises(ProfileError, match="n_ctx takes"):
        save("mine", {"n_ctx": "many"}, tmp_path)
    assert path.read_text() == TEXT
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_toml_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("threads =")
    with pytest.raises(ProfileError, match="was not saved"):
        save("mine", {"threads": 4}, tmp_path)
    assert path.read_text() == "threads ="


@pytest.mark.parametrize("name", ["", "../mine", "a/b", ".hidden", "a\0", "x" * 65, "a\x1b"])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProfileError, match="cannot be the name"):
        save(name, {"threads": 4}, tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="was not saved"):
        save("mine", {"threads": 4}, tmp_path / "file" / "profiles")

from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.profiles.state import recall, remember, state_file


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / "state" / name)
    return tmp_path / "state"


def test_what_is_remembered_is_recalled() -> None:
    assert recall("theme") is None
    remember("theme", "light")
    remember("profile", "mine")
    remember("theme", "dark")
    assert (recall("theme"), recall("profile")) == ("dark", "mine")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"theme": 3}', b"\xff", b"[" * 10_000])
def test_a_damaged_file_is_forgotten_and_replaced(content: bytes) -> None:
    state_file().parent.mkdir(parents=True)
    state_file().write_bytes(content)
    assert recall("theme") is None
    remember("theme", "light")
    assert recall("theme") == "light"


def test_a_folder_that_cannot_be_written_to_raises_nothing(state: Path) -> None:
    state.write_text("a file where the folder would be")
    remember("theme", "light")
    assert recall("theme") is None

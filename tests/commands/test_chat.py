from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.commands.chat import LAST_PROFILE, ThemeError, check_theme, starting_profile
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.state import remember


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / "state")
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / "config")
    (tmp_path / "config" / "profiles").mkdir(parents=True)
    return tmp_path / "config" / "profiles"


def test_the_first_start_is_under_the_guide() -> None:
    profile, failure = starting_profile(None, (), None)
    assert (profile.name, failure) == ("guide", None)


def test_the_last_profile_is_used_again_with_overrides() -> None:
    remember(LAST_PROFILE, "laptop-cpu")
    profile, failure = starting_profile(None, ("threads=3",), None)
    assert (profile.name, profile.threads, failure) == ("laptop-cpu", 3, None)


def test_a_model_is_not_opened_under_the_last_profile() -> None:
    remember(LAST_PROFILE, "laptop-cpu")
    assert starting_profile(None, (), "/x/some.gguf")[0].name == "some"


def test_a_remembered_profile_that_broke_gives_way_to_the_guide_with_the_reason(folders: Path) -> None:
    (folders / "mine.toml").write_text("n_ctx = 'x'")
    remember(LAST_PROFILE, "mine")
    profile, failure = starting_profile(None, (), None)
    assert profile.name == "guide"
    assert failure is not None
    assert "mine.toml, line 1" in failure.what


def test_a_broken_profile_that_is_asked_for_is_an_error(folders: Path) -> None:
    (folders / "mine.toml").write_text("n_ctx = 'x'")
    with pytest.raises(ProfileError):
        starting_profile("mine", (), None)


def test_an_override_that_is_wrong_is_an_error_and_not_a_reason_to_change_profile() -> None:
    remember(LAST_PROFILE, "laptop-cpu")
    with pytest.raises(ProfileError, match="--set"):
        starting_profile(None, ("n_ctxx=3",), None)


def test_a_theme_that_is_not_there_names_the_nearest() -> None:
    check_theme("light")
    with pytest.raises(ThemeError) as raised:
        check_theme("lite\x1b")
    assert raised.value.failure.what.isprintable()
    assert raised.value.failure.next == "Did you mean light?"

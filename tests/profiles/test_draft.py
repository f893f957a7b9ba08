from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewise.profiles.draft import Draft, new_draft, open_draft, text_of
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.fields import Field, default_of, fields
from pagewise.profiles.files import load_all, resolve
from pagewise.profiles.save import delete
from pagewise.profiles.schema import value_of

BASE = """\
# the good one
model = "/m/qwen.gguf"   # do not move
n_gpu_layers = 18

[sampling]
temperature = 0.6  # calm
"""
LONG = 'extends = "base"\nn_ctx = 32768 # all of it\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    (folder / "base.toml").write_text(BASE)
    (folder / "long.toml").write_text(LONG)
    return folder


def opened(name: str) -> Draft:
    return open_draft(resolve(name))


def test_each_value_says_where_it_comes_from() -> None:
    draft = opened("long")
    assert draft.extends == "base" and not draft.read_only
    assert (draft.value("n_ctx"), draft.origin("n_ctx")) == (32768, "own")
    assert (draft.value("n_gpu_layers"), draft.origin("n_gpu_layers")) == (18, "inherited")
    assert (draft.value("sampling.temperature"), draft.origin("sampling.temperature")) == (0.6, "inherited")
    assert (draft.value("n_batch"), draft.origin("n_batch")) == (2048, "default")
    draft.type("n_batch", "512")
    assert (draft.value("n_batch"), draft.origin("n_batch")) == (512, "changed")


def test_a_draft_is_the_profile_that_it_was_opened_of() -> None:
    for name in load_all().profiles:
        assert opened(name).profile() == resolve(name)


def test_a_wrong_text_is_kept_and_the_value_before_it_counts() -> None:
    draft = opened("base")
    draft.type("n_gpu_layers", "18x")
    assert draft.text("n_gpu_layers") == "18x"
    assert "not the text" in draft.wrong["n_gpu_layers"].problem.why
    assert draft.profile().n_gpu_layers == 18 and not draft.changed
    draft.type("n_gpu_layers", "20")
    assert not draft.wrong and draft.profile().n_gpu_layers == 20


def test_typing_the_former_value_is_no_change() -> None:
    draft = opened("base")
    draft.type("n_gpu_layers", "1")
    draft.type("n_gpu_layers", "18")
    assert not draft.changed


def test_nothing_typed_takes_a_key_back_to_what_is_inherited(folder: Path) -> None:
    draft = opened("long")
    draft.type("n_ctx", "")
    assert draft.profile().n_ctx == 4096
    draft.save()
    assert (folder / "long.toml").read_text() == 'extends = "base"\n'


def test_saving_keeps_comments_order_and_what_others_wrote(folder: Path) -> None:
    draft = opened("base")
    draft.type("n_gpu_layers", "20")
    draft.type("sampling.top_k", "5")
    (folder / "base.toml").write_text(BASE.replace("0.6", "0.5"))
    draft.save()
    written = (folder / "base.toml").read_text()
    assert written == BASE.replace("0.6", "0.5").replace("18", "20").rstrip() + "\ntop_k = 5\n"


def test_a_profile_is_saved_into_its_own_file_whatever_its_name(folder: Path) -> None:
    (folder / "file.toml").write_text('name = "other"\nn_ctx = 512\n')
    draft = opened("other")
    draft.type("n_ctx", "1024")
    assert draft.save() == folder / "file.toml"
    assert resolve("other").n_ctx == 1024
    copy = opened("other").save_as("third")
    assert resolve("third").n_ctx == 1024 and "name" not in copy.read_text()
    assert not load_all().failures


def test_a_shipped_profile_is_saved_as_another_with_its_comments(folder: Path) -> None:
    draft = opened("laptop-cpu")
    assert draft.read_only
    draft.type("n_ctx", "2048")
    path = draft.save_as("mine")
    assert path == folder / "mine.toml" and "# no GPU" not in path.read_text()
    assert "more context needs more RAM" in path.read_text()
    assert resolve("mine").n_ctx == 2048 and resolve("laptop-cpu").n_ctx == 4096


@pytest.mark.parametrize(("name", "words"), [("base", "already"), ("guide", "ships"), ("a/b", "cannot be the name")])
def test_no_name_replaces_what_is_there(folder: Path, name: str, words: str) -> None:
    with pytest.raises(ProfileError) as caught:
        opened("long").save_as(name)
    assert words in caught.value.failure.what + caught.value.failure.why
    assert (folder / "base.toml").read_text() == BASE


def test_what_runs_now_extends_the_file_it_came_from(folder: Path) -> None:
    now = msgspec.structs.replace(resolve("base"), n_gpu_layers=7)
    path = new_draft(now).save_as("now")
    assert path.read_text() == 'extends = "base"\nn_gpu_layers = 7\n'
    assert msgspec.structs.replace(resolve("now"), name="base", source=now.source) == now


def test_what_came_from_no_file_is_written_whole() -> None:
    now = resolve(None, ["n_ctx=512", "sampling.seed=3"], model="/m/other.gguf")
    new_draft(now).save_as("fresh")
    assert msgspec.structs.replace(resolve("fresh"), name=now.name, source="") == now


def test_a_value_taken_away_from_an_inherited_one_is_written_without_it() -> None:
    quantized = resolve("guide-q4")
    now = msgspec.structs.replace(quantized, quant=None)
    new_draft(now).save_as("whole")
    assert resolve("whole").quant is None
    assert resolve("whole").sampling == now.sampling


def test_one_that_replaces_a_shipped_one_of_its_name(folder: Path) -> None:
    (folder / "guide.toml").write_text('extends = "guide"\nn_ctx = 512\n')
    draft = opened("guide")
    assert not draft.read_only and draft.origin("n_ctx") == "own"
    draft.type("n_ctx", "")
    assert draft.profile().n_ctx == 1024


def test_deleting_what_is_gone_is_said(folder: Path) -> None:
    delete(folder / "long.toml")
    with pytest.raises(ProfileError) as caught:
        delete(folder / "long.toml")
    assert "not deleted" in caught.value.failure.what


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.key)
def test_every_default_survives_being_typed(field: Field) -> None:
    if field.default not in (None, [], ""):
        assert value_of(field.key, text_of(field.default)) == field.default


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(key=st.sampled_from([field.key for field in fields()]), text=st.text(max_size=30))
def test_whatever_is_typed_there_is_a_profile(key: str, text: str) -> None:
    draft = opened("base")
    draft.type(key, text)
    assert draft.profile().name == "base"
    assert key in draft.wrong or draft.value(key) is not None or default_of(key) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(text=st.text(max_size=40).filter(lambda text: "\x00" not in text))
def test_any_text_can_be_shown_and_typed_again(text: str) -> None:
    assert text == "" or value_of("system_prompt", text_of(text)) == text

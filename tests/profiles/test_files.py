from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.files import load_all, resolve
from pagewise.profiles.parse import parse_file
from pagewise.profiles.schema import valid_keys
from pagewise.settings import Keep, Profile


@pytest.fixture
def user(tmp_path: Path) -> Path:
    folder = tmp_path / "profiles"
    folder.mkdir()
    return folder


def write(user: Path, name: str, text: str) -> Path:
    path = user / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def failure_of(user: Path) -> Failure:
    failures = load_all(user).failures
    assert len(failures) == 1, failures
    return failures[0]


def test_the_shipped_profiles_are_all_usable(user: Path) -> None:
    found = load_all(user)
    assert found.failures == ()
    assert list(found.profiles) == ["gpu-full", "guide", "guide-q4", "laptop-cpu"]
    assert found.profiles["guide"].sampling.temperature == 0
    assert found.profiles["guide"].n_ctx == 1024
    assert found.profiles["guide-q4"].quant == "Q4_K_M"
    assert found.profiles["guide-q4"].sampling == found.profiles["guide"].sampling
    assert found.profiles["laptop-cpu"].n_gpu_layers == 0
    assert found.profiles["gpu-full"].n_gpu_layers == "all"
    assert all(profile.description for profile in found.profiles.values())


def test_a_users_profile_replaces_the_shipped_one_and_may_build_on_it(user: Path) -> None:
    write(user, "guide", 'extends = "guide"\nn_ctx = 512\n')
    found = load_all(user)
    assert found.failures == ()
    assert found.profiles["guide"].n_ctx == 512
    assert found.profiles["guide"].sampling.temperature == 0
    assert found.profiles["guide"].source == str(user / "guide.toml")
    assert found.profiles["guide-q4"].n_ctx == 512


def test_sampling_is_inherited_key_by_key_and_the_description_is_not(user: Path) -> None:
    write(user, "base", 'description = "base"\nthreads = 3\n[sampling]\ntop_k = 7\ntop_p = 0.5\n')
    write(user, "mine", 'extends = "base"\n[sampling]\ntop_k = 9\n')
    mine = load_all(user).profiles["mine"]
    assert (mine.threads, mine.sampling.top_k, mine.sampling.top_p, mine.description) == (3, 9, 0.5, "")


def test_a_relative_model_path_belongs_to_the_file_that_names_it(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    write(user, "near", 'model = "models/x.gguf"')
    write(user, "heir", 'extends = "near"')
    write(user, "home", 'model = "~/x.gguf"')
    profiles = load_all(user).profiles
    assert profiles["near"].model == profiles["heir"].model == str(user / "models/x.gguf")
    assert profiles["home"].model == "/home/somebody/x.gguf"


def test_another_model_does_not_inherit_the_quant_level(user: Path) -> None:
    write(user, "mine", 'extends = "guide-q4"\nmodel = "/x.gguf"')
    assert load_all(user).profiles["mine"].quant is None


@pytest.mark.parametrize(
    ("text", "line", "why", "next"),
    [
        ("threads = 2\nn_ctxx = 3\n", 2, "no key n_ctxx", "n_ctx"),
        ("temperature = 0\n", 1, "no key temperature", "sampling.temperature"),
        ("[sampling]\n\ntemprature = 1\n", 3, "no key sampling.temprature", "sampling.temperature"),
        ("sampling = { topk = 1 }\n", 1, "no key sampling.topk", "sampling.top_k"),
        ('# n_ctx\nn_ctx = "many"\n', 2, "a whole number from 0 to 16 777 216", "n_ctx"),
        ("flash_attention = true\n", 1, '"auto" or "off" or "on"', "flash_attention"),
        ("[sampling]\ntop_p = 1.5\n", 2, "a number from 0 to 1", "top_p"),
        ("[sampling]\ntemperature = nan\n", 2, "a number from 0 to 10", "temperature"),
        ("tensor_split = [0.5, inf]\n", 1, "a list of numbers", "tensor_split"),
        ('system_prompt = """\nn_ctx = "x"\n"""\nn_ctx = "x"\n', 4, "a whole number", "n_ctx"),
        ("sampling = 3\n", 1, "a table", "sampling"),
        ('placement = "of"\n', 1, '"auto" or "off" or a table such as { keep', "placement"),
        ('placement = { keep = "12" }\n', 1, "a table such as", "placement"),
        ('[placement]\nkept = "12GiB"\n', 1, "a table such as", "placement"),
        ("extends = 3\n", 1, "the name of a profile", "quotes"),
        ("model = ''\n", 1, "the path of a GGUF file", "path"),
        ("n_ctx = 99999999999999999999999999\n", 1, "a whole number", "n_ctx"),
        ('"a\\u001bb" = 1\n', None, "no key a\N{REPLACEMENT CHARACTER}b", "--keys"),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_what_is_right(
    user: Path, text: str, line: int | None, why: str, next: str
) -> None:
    path = write(user, "mine", text)
    failure = failure_of(user)
    assert failure.what == f"{path}, line {line} cannot be used" if line else failure.what.startswith(str(path))
    assert why in failure.why
    assert next in failure.next


def test_text_that_is_not_toml_is_named_with_its_line(user: Path) -> None:
    path = write(user, "mine", "n_ctx = 1\nn_batch =\n")
    assert failure_of(user).what == f"{path}, line 2 cannot be read"


def test_bytes_that_are_not_utf8_are_named_with_their_line(user: Path) -> None:
    (user / "mine.toml").write_bytes(b"n_ctx = 1\ndescription = '\xff'\n")
    assert ", line 2 is not text" in failure_of(user).what


def test_a_circle_of_extends_names_the_whole_circle(user: Path) -> None:
    write(user, "one", 'extends = "two"')
    write(user, "two", '\nextends = "three"')
    write(user, "three", 'extends = "one"')
    found = load_all(user)
    assert not {"one", "two", "three"} & set(found.profiles)
    assert any("one → two → three → one" in failure.why for failure in found.failures)
    assert any(f"{user / 'two.toml'}, line 2" in failure.what for failure in found.failures)


def test_extending_oneself_is_a_circle_where_nothing_of_that_name_ships(user: Path) -> None:
    write(user, "own", 'extends = "own"')
    assert "own → own" in failure_of(user).why


def test_extending_a_profile_that_is_missing_names_the_nearest(user: Path) -> None:
    write(user, "mine", 'extends = "laptop"')
    failure = failure_of(user)
    assert "laptop" in failure.why
    assert "laptop-cpu" in failure.next


def test_two_files_of_one_name_are_told_and_the_first_is_used(user: Path) -> None:
    first = write(user, "a", 'name = "mine"\nthreads = 1')
    second = write(user, "b", 'name = "mine"\nthreads = 2')
    found = load_all(user)
    assert found.profiles["mine"].threads == 1
    assert str(first) in found.failures[0].why
    assert str(second) in found.failures[0].why


def test_a_broken_profile_costs_only_itself_and_its_heirs(user: Path) -> None:
    write(user, "broken", "n_ctx = -1")
    write(user, "heir", 'extends = "broken"')
    write(user, "fine", "n_ctx = 256")
    found = load_all(user)
    assert set(found.profiles) == {"gpu-full", "guide", "guide-q4", "laptop-cpu", "fine"}
    assert len(found.failures) == 2


def test_a_folder_in_place_of_a_file_is_told(user: Path) -> None:
    (user / "mine.toml").mkdir()
    assert "cannot be read" in failure_of(user).what


def test_asking_for_a_broken_profile_says_what_is_wrong_with_it(user: Path) -> None:
    write(user, "mine", "n_ctx = -1")
    with pytest.raises(ProfileError, match=r"mine\.toml, line 1"):
        resolve("mine", user=user)


def test_asking_for_a_profile_that_is_not_there_names_the_nearest(user: Path) -> None:
    with pytest.raises(ProfileError) as raised:
        resolve("guid", user=user)
    assert raised.value.failure.next == "Did you mean guide?"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("n_ctx=8192", "n_ctx", 8192),
        ("n_gpu_layers=all", "n_gpu_layers", "all"),
        ("n_gpu_layers = 3", "n_gpu_layers", 3),
        ("flash_attention=on", "flash_attention", "on"),
        ("tensor_split=[1, 2.5]", "tensor_split", (1.0, 2.5)),
        ("system_prompt=Be brief. # always", "system_prompt", "Be brief. # always"),
        ('system_prompt="two\\nlines"', "system_prompt", "two\nlines"),
        ("system_prompt=true", "system_prompt", "true"),
        ("swa_full=true", "swa_full", True),
        ("model=guide", "model", "guide"),
        ("placement=off", "placement", "off"),
        ('placement={keep = "1.5 GiB"}', "placement", Keep("1.5 GiB")),
    ],
)
def test_an_override_is_read_as_toml_or_else_as_text(user: Path, override: str, key: str, value: object) -> None:
    assert getattr(resolve("guide", [override], user=user), key) == value


def test_the_memory_a_model_may_keep_is_read_from_a_table(user: Path) -> None:
    write(user, "mine", '[placement]\nkeep = "800MiB"\n')
    placement = load_all(user).profiles["mine"].placement
    assert isinstance(placement, Keep)
    assert placement.bytes == 800 * 1024**2


def test_later_overrides_win_and_sampling_keys_leave_the_others(user: Path) -> None:
    profile = resolve("guide", ["sampling.top_k=3", "sampling.top_k=4", "sampling.seed=1"], user=user)
    assert (profile.sampling.top_k, profile.sampling.seed, profile.sampling.temperature) == (4, 1, 0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("n_ctx", "key=value"),
        ("=3", "key=value"),
        ("nctx=3", "n_ctx"),
        ("n_ctx=abc", "a whole number"),
        ("sampling.temperature=hot", "a number from 0 to 10"),
        ("model.path=3", "no keys of its own"),
        ("name=x", "cannot be overridden"),
        ("n_ctx=1\nthreads=2", "a whole number"),
        ("a.b.c=1", "no key"),
    ],
)
def test_an_override_that_cannot_be_used_says_why(user: Path, override: str, words: str) -> None:
    with pytest.raises(ProfileError) as raised:
        resolve("guide", [override], user=user)
    failure = raised.value.failure
    assert failure.what.startswith("--set")
    assert words in failure.why + failure.next


def test_a_model_without_a_profile_gets_the_defaults_and_its_own_name(user: Path, tmp_path: Path) -> None:
    profile = resolve(None, model=str(tmp_path / "Some-7B.gguf"), user=user)
    assert profile == Profile(name="Some-7B", model=str(tmp_path / "Some-7B.gguf"))


def test_a_model_with_a_profile_takes_its_settings_and_drops_the_quant_level(user: Path, tmp_path: Path) -> None:
    profile = resolve("guide-q4", model=str(tmp_path / "x.gguf"), user=user)
    assert (profile.name, profile.n_ctx, profile.quant) == ("guide-q4", 1024, None)


def test_every_key_of_the_schema_is_listed_once() -> None:
    keys = valid_keys()
    assert len(keys) == len(set(keys))
    fields = set(Profile.__struct_fields__) - {"source", "sampling"}
    assert fields <= set(keys)


def read_or_error(content: bytes) -> None:
    """Any bytes are a profile, or a ProfileError that can be shown."""
    try:
        parse_file(Path("/folder/mine.toml"), content)
    except ProfileError as error:
        for part in (error.failure.what, error.failure.why, error.failure.next):
            assert part
            assert part.isprintable()


@given(st.binary(max_size=400))
def test_any_bytes_give_a_profile_or_a_failure(content: bytes) -> None:
    read_or_error(content)


@given(st.text(max_size=300))
def test_any_text_gives_a_profile_or_a_failure(text: str) -> None:
    read_or_error(text.encode("utf-8", "surrogatepass"))


values = st.recursive(
    st.integers() | st.floats() | st.booleans() | st.text(max_size=8).map(lambda text: text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([key for key in valid_keys() if "." not in key] + ["sampling", "x"]), values))
def test_any_toml_values_give_a_profile_or_a_failure(document: dict[str, object]) -> None:
    import tomlkit

    read_or_error(tomlkit.dumps(document).encode("utf-8", "replace"))


@pytest.mark.parametrize("text", ["[" * 100_000, "a=" + "[" * 50_000, "a=" + "{b=" * 5_000, "n_ctx = " + "9" * 10_000])
def test_nesting_and_length_without_end_are_refused(text: str) -> None:
    read_or_error(text.encode())


def test_a_large_file_is_refused_unparsed(user: Path) -> None:
    write(user, "mine", "#" * (1024 * 1024 + 1))
    assert "is not a profile" in failure_of(user).what

from __future__ import annotations

import pytest

from pagewise.profiles.fields import Field, fields
from pagewise.profiles.schema import KeyProblem, convert, valid_keys, value_of


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.key)
def test_every_key_says_what_it_means_and_takes(field: Field) -> None:
    assert field.meaning.endswith((".", "none", "all of them")) or len(field.meaning) > 10
    assert field.takes
    assert field.cost in ("live", "context", "model")


def test_there_is_a_field_for_every_key_but_the_name() -> None:
    assert {field.key for field in fields()} == set(valid_keys()) - {"name", "extends"}


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.key)
def test_every_choice_is_a_value(field: Field) -> None:
    for choice in field.choices:
        convert({"name": "-", field.key: value_of(field.key, choice)})


def test_choices_keep_the_order_of_the_schema() -> None:
    by_key = {field.key: field for field in fields()}
    assert by_key["cache_type_k"].choices[:4] == ("f32", "f16", "bf16", "q8_0")
    assert by_key["swa_full"].choices == ("false", "true")
    assert by_key["n_gpu_layers"].choices == ()


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("tensor_split", "3, 1", [3, 1]),
        ("tensor_split", "[3, 1]", [3, 1]),
        ("tensor_overrides", "ffn_.*_exps=CPU", ["ffn_.*_exps=CPU"]),
        ("sampling.stop", '["a", "b"]', ["a", "b"]),
        ("model", "~/a b.gguf", "~/a b.gguf"),
        ("system_prompt", '"two\\nlines"', "two\nlines"),
        ("n_gpu_layers", "all", "all"),
        ("placement", '{ keep = "12GiB" }', {"keep": "12GiB"}),
    ],
)
def test_what_is_typed_stands_for(key: str, typed: str, value: object) -> None:
    assert value_of(key, typed) == value


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tensor_overrides", ["ffn_[=CPU"], "regular expression is wrong"),
        ("tensor_overrides", ["ffn_.*"], "names no buffer"),
        ("tensor_overrides", ["=CPU"], "is empty"),
        ("tensor_overrides", ["(?<=x)y=CPU"], "do not look behind"),
        ("tensor_split", [0, 0.0], "nothing to any GPU"),
        ("tensor_split", [-1], "numbers, 0 or more"),
        ("n_ctx", -5, "from 0 to 16 777 216"),
        ("n_ctx", 10**30, "so large a number"),
        ("main_gpu", 65, "from 0 to 64"),
        ("lora", [{"path": "/x", "scale": float("inf")}], "tables such as"),
    ],
)
def test_a_wrong_value_is_said_with_what_to_do(key: str, value: object, words: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        convert({"name": "-", key: value})
    assert words in caught.value.why and caught.value.next

"""The keys of a profile: their types in words, the nearest valid one, and values checked against them."""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import tomli
from msgspec import inspect

from pagewise.settings import Keep, Lora, Profile, Sampling

EXTENDS = "extends"
_NOT_IN_FILES = frozenset({"source"})


def _fields(struct: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: field.type for field in info.fields}


_SAMPLING = _fields(Sampling)
_SUCH_AS = {
    "idle_unload": 'a time in quotes, such as "10m", "90s" or "2h"',
    "fit_margin": 'an amount in quotes, such as "1GiB" or "512MiB"',
}
"""Words for what is a text of a certain form."""
_PROFILE = {key: kind for key, kind in _fields(Profile).items() if key not in _NOT_IN_FILES}


class KeyProblem(Exception):
    """One key that cannot stay: the dotted ``key``, ``why``, and what to do ``next``."""

    def __init__(self, key: str, why: str, next: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why
        self.next = next


def valid_keys() -> tuple[str, ...]:
    """Every key that a profile may have, dotted, in the order of the schema."""
    own = [key for key in _PROFILE if key != "sampling"]
    return (EXTENDS, *own, *(f"sampling.{key}" for key in _SAMPLING))


def nearest(word: str, among: Mapping[str, object] | tuple[str, ...] | list[str]) -> str | None:
    """The entry that looks most like ``word``, or None if none does."""
    matches = difflib.get_close_matches(word[:200], list(among), n=1, cutoff=0.6)
    return matches[0] if matches else None


def expected(key: str) -> str | None:
    """What a dotted key takes, in words such as ``a whole number from 0 to 64``; None if there is no such key."""
    table, _, inner = key.partition(".")
    if table == EXTENDS and not inner:
        return "the name of a profile, in quotes"
    kind = _SAMPLING.get(inner) if table == "sampling" and inner else (None if inner else _PROFILE.get(table))
    return None if kind is None else _SUCH_AS.get(key) or _words(kind)


def takes_text(key: str) -> bool:
    """Whether the dotted key's value is a text, so that it needs no quotes on a command line."""
    return any(isinstance(kind, inspect.StrType) for kind in _kinds(key))


def choices(key: str) -> tuple[str, ...]:
    """The only values that the dotted key can have, as they are typed, or none where there are others too."""
    table, _, inner = key.partition(".")
    hint = typing.get_type_hints(Sampling if inner else Profile).get(inner or table)
    if hint is bool:
        return ("false", "true")
    return tuple(map(str, typing.get_args(hint))) if typing.get_origin(hint) is typing.Literal else ()


def value_of(key: str, typed: str) -> Any:
    """What was typed for the dotted key, as the value it stands for: TOML, but texts without quotes.

    A list may stand without its brackets: numbers apart by commas, or one text alone.
    """
    if takes_text(key) and typed[:1] not in ('"', "'"):
        return typed
    items = next((kind.item_type for kind in _kinds(key) if isinstance(kind, inspect.VarTupleType)), None)
    if isinstance(items, inspect.StrType) and typed[:1] not in ('"', "'", "["):
        return [typed]
    if isinstance(items, inspect.FloatType) and not typed.startswith("["):
        typed = f"[{typed}]"
    try:
        parsed = tomli.loads(f"value = {typed}")
    except (tomli.TOMLDecodeError, RecursionError, ValueError):
        return typed
    return parsed["value"] if len(parsed) == 1 else typed


def _kinds(key: str) -> tuple[inspect.Type, ...]:
    table, _, inner = key.partition(".")
    kind = _SAMPLING.get(inner) if table == "sampling" and inner else (None if inner else _PROFILE.get(table))
    if kind is None:
        return ()
    return tuple(kind.types) if isinstance(kind, inspect.UnionType) else (kind,)


def check_keys(values: Mapping[str, Any]) -> Iterator[KeyProblem]:
    """Each key that no profile has, with the nearest one that there is."""
    for key, value in values.items():
        if key != EXTENDS and key not in _PROFILE:
            yield _unknown(key)
        elif key == "sampling" and isinstance(value, dict):
            for inner in value:
                if inner not in _SAMPLING:
                    yield _unknown(f"sampling.{inner}")


def convert(values: Mapping[str, Any]) -> Profile:
    """The profile that ``values`` (without ``extends``) describe. Raises KeyProblem for the first wrong value."""
    for key, value in values.items():
        _check(key, value)
    return msgspec.convert({key: _plain(value) for key, value in values.items()}, Profile)


def _check(key: str, value: Any) -> None:
    if key == "sampling" and isinstance(value, dict):
        for inner, entry in value.items():
            _check_value(f"sampling.{inner}", inner, entry, Sampling, {})
        return
    _check_value(key, key, value, Profile, {} if key == "name" else {"name": "-"})


def _check_meaning(key: str, value: Any) -> None:
    """What a type cannot say. llama.cpp ends the process at a regular expression that it cannot read."""
    if key == "tensor_overrides":
        for entry in value:
            why = _override_problem(entry)
            if why:
                shape = "REGEX=BUFFER, such as ffn_.*_exps=CPU"
                raise KeyProblem(key, f'The override "{shown(entry)}" cannot be used: {why}', f"Write it as {shape}.")
    elif key == "tensor_split" and value and not any(value):
        raise KeyProblem(key, "tensor_split gives nothing to any GPU", "Give at least one number above 0.")


def _override_problem(entry: str) -> str:
    pattern, equals, buffer = entry.rpartition("=")
    if not equals or not buffer.strip():
        return "it names no buffer"
    if not pattern:
        return "its regular expression is empty"
    if "(?<" in pattern or "(?P" in pattern:
        return "llama.cpp's regular expressions have no named groups and do not look behind"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"its regular expression is wrong, {shown(str(error))}"
    return ""


def _check_value(key: str, field: str, value: Any, struct: type[msgspec.Struct], base: dict[str, Any]) -> None:
    try:
        if not _finite(value):
            raise msgspec.ValidationError("not finite")
        msgspec.convert({**base, field: _plain(value)}, struct)
    except (msgspec.ValidationError, OverflowError) as error:
        takes = expected(key) or "something else"
        raise KeyProblem(key, f"{key} takes {takes}, not {_shown(value)}", f"Give {key} {takes}.") from error
    _check_meaning(key, value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(_finite(entry) for entry in value)
    return all(_finite(entry) for entry in value.values()) if isinstance(value, dict) else True


def _unknown(key: str) -> KeyProblem:
    table, _, inner = key.partition(".")
    near = nearest(inner, _SAMPLING) if inner else nearest(table, _PROFILE)
    if inner and near:
        near = f"sampling.{near}"
    elif not near:
        tail = nearest((inner or table), _SAMPLING if not inner else _PROFILE)
        near = tail and (f"sampling.{tail}" if not inner else tail)
    return KeyProblem(
        key,
        f"There is no key {shown(key)}",
        f"Did you mean {near}?" if near else "`pagewise profiles --keys` lists the keys that there are.",
    )


def shown(text: str, limit: int = 60) -> str:
    """Text from a file as it may be put into a message: printable, and at most ``limit`` characters."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the text "{shown(value)}"'
    if isinstance(value, list):
        return "a list" if _list_of_scalars(value) is None else f"the list {_list_of_scalars(value)}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "so large a number"
    return shown(str(value))


def _list_of_scalars(values: list[Any]) -> str | None:
    if len(values) > 6 or any(isinstance(value, list | dict) for value in values):
        return None
    return "[" + ", ".join(shown(repr(value)) for value in values) + "]"


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        parts = [_words(entry) for entry in kind.types if not isinstance(entry, inspect.NoneType)]
        return " or ".join(parts)
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType):
        return f"a whole number{_range(kind.ge, kind.le)}"
    if isinstance(kind, inspect.FloatType):
        return f"a number{_range(kind.ge, kind.le)}"
    if isinstance(kind, inspect.VarTupleType):
        return "a list of " + _words_of_items(kind.item_type)
    if isinstance(kind, inspect.StructType):
        return 'a table such as { keep = "12GiB" }' if kind.cls is Keep else "a table, [sampling]"
    return "a text in quotes"


def _words_of_items(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.FloatType):
        return "numbers, 0 or more"
    if isinstance(kind, inspect.StructType) and kind.cls is Lora:
        return 'tables such as { path = "adapter.gguf", scale = 1 }'
    return "texts"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {_thousands(high)}"
    return f" of at least {low:g}" if low is not None else ""


def _thousands(value: float) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:g}"

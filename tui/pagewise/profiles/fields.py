"""What is to be said of each key that a profile may have, for whoever edits one."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec

from pagewise import settings
from pagewise.profiles.cost import CONTEXT, LIVE
from pagewise.profiles.schema import choices, expected, valid_keys
from pagewise.settings import Profile, Sampling

Cost = Literal["live", "context", "model"]
_ELSEWHERE = frozenset({"extends", "name"})
"""Keys that are set by other ways than by a value: by saving under another name."""


class Field(NamedTuple):
    """One key, in words."""

    key: str
    """Dotted, such as ``sampling.top_k``."""
    meaning: str
    takes: str
    default: Any
    """As a file has it: None where leaving it out is the default."""
    cost: Cost
    """What a change of it costs, in a model that is loaded."""
    choices: tuple[str, ...]
    """The only values that it can have, if they are few."""


@cache
def fields() -> tuple[Field, ...]:
    """Every key that can be edited, in the order of the schema."""
    said = _meanings()
    return tuple(
        Field(key, said.get(key, ""), expected(key) or "", default_of(key), cost_of(key), choices(key))
        for key in valid_keys()
        if key not in _ELSEWHERE
    )


def cost_of(key: str) -> Cost:
    """The class of a change of this key alone, at most."""
    table = key.partition(".")[0]
    return "live" if table in LIVE else "context" if table in CONTEXT or table == "lora" else "model"


def default_of(key: str) -> Any:
    """The default of a dotted key, as a file would have it."""
    table, _, inner = key.partition(".")
    value = getattr(Sampling(), inner) if inner else getattr(Profile(name="-"), table)
    return as_in_file(value)


def as_in_file(value: Any) -> Any:
    """A value of a Profile as a TOML file has it: lists and tables."""
    plain = None if value is None else msgspec.to_builtins(value)
    return list(plain) if isinstance(plain, tuple) else plain


def _meanings() -> dict[str, str]:
    """The text that stands below each field in settings.py: it is written once, there."""
    said: dict[str, str] = {}
    tree = ast.parse(inspect.getsource(settings))
    tables = {"Profile": "", "Sampling": "sampling."}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name not in tables:
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                words = " ".join(text.value.value.split()).replace("``", "")
                said[tables[node.name] + field.target.id] = words.replace("None: ", "not set: ")
    return said

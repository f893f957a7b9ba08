"""What a profile takes from the one that it extends."""

from __future__ import annotations

from typing import Any

from pagewise.profiles.parse import ProfileFile, located
from pagewise.profiles.schema import EXTENDS, KeyProblem, nearest, shown

NOT_INHERITED = frozenset({"name", "description", EXTENDS})


def inherited(name: str, files: dict[str, ProfileFile], chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """All keys of ``name`` with those of what it extends, as the files have them. Raises ProfileError."""
    file = files[name]
    base = file.values.get(EXTENDS)
    if base is None:
        return {key: value for key, value in file.values.items() if key != EXTENDS}
    chain = (*chain, name)
    if base in chain:
        circle = " → ".join((*chain[chain.index(base) :], base))
        problem = KeyProblem(
            EXTENDS, f"The profiles extend each other in a circle: {circle}", "Take one `extends` out."
        )
        raise located(file.path, file.text, problem)
    if base not in files:
        near = nearest(base, tuple(files))
        problem = KeyProblem(
            EXTENDS,
            f"It extends {shown(base)!r}, and there is no usable profile of that name",
            f"Did you mean {near}?" if near else f"There are: {', '.join(files)}.",
        )
        raise located(file.path, file.text, problem)
    return merged(inherited(base, files, chain), file.values)


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``: tables key by key, and another model drops the quant of the former."""
    both = {key: value for key, value in base.items() if key not in NOT_INHERITED}
    for key, value in own.items():
        if key == EXTENDS:
            continue
        if key == "sampling" and isinstance(value, dict) and isinstance(both.get(key), dict):
            both[key] = {**both[key], **value}
        else:
            both[key] = value
    if "model" in own and "quant" not in own:
        both.pop("quant", None)
    return both

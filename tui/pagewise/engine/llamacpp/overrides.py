"""Tensor overrides held against the tensors that there are, before llama.cpp meets them."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.model import ModelFile
from pagewise.models.gguf import printable

_NOT_LETTERS = re.compile(r"\\.|\[[^\]]*\]|[^A-Za-z0-9_.]+")
_LAYER = re.compile(r"^(blk\.)\d+\.")
_NAMED = 3


def compiled(overrides: Iterable[str]) -> list[tuple[re.Pattern[str], str]]:
    """(pattern, buffer type) of each ``REGEX=BUFFER TYPE``. Raises Failed for a pattern that is none.

    llama.cpp's dialect is ECMAScript's; where the two differ, its own word comes when it loads the model.
    """
    found = []
    for text in overrides:
        pattern, _, buffer = text.rpartition("=")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                found.append((re.compile(pattern), buffer))
        except (re.error, RecursionError, OverflowError) as error:
            where = f", at character {error.pos + 1}" if isinstance(error, re.error) and error.pos is not None else ""
            raise Failed(
                f"The tensor override {printable(text)!r} cannot be used",
                f"{printable(pattern)!r} is not a regular expression: {printable(str(error).split(' at ')[0])}{where}.",
                r"Correct tensor_overrides in the profile; a full stop that is meant as one is written \. there.",
            ) from error
    return found


def override_notes(file: ModelFile, overrides: tuple[str, ...]) -> list[str]:
    """One sentence for each override that does nothing: it matches no tensor, or others take all that it matches.

    Raises Failed for a pattern that is none.
    """
    names = [tensor.name for header in file.headers for tensor in header.tensors]
    left = set(names)
    notes = []
    for text, (pattern, _) in zip(overrides, compiled(overrides), strict=True):
        matched = {name for name in names if pattern.search(name)}
        if not matched:
            notes.append(
                f"The tensor override {printable(text)!r} matches no tensor of this model; "
                f"the nearest: {', '.join(map(printable, nearest_tensors(pattern.pattern, names))) or 'none'}."
            )
        elif not matched & left:
            notes.append(f"The tensor override {printable(text)!r} does nothing: others before it take all it matches.")
        left -= matched
    return notes


def nearest_tensors(pattern: str, names: list[str]) -> list[str]:
    """Names that look most like the pattern; of tensors that every layer has, the first layer's."""
    plain = _NOT_LETTERS.sub(lambda found: "." if found[0] == r"\." else "", pattern)
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(_LAYER.sub("", name), name)
    bare = _LAYER.sub("", plain).removeprefix("blk").strip(".")
    scores = {
        name: max(_likeness(bare, kind), _likeness(bare, kind.removesuffix(".weight")), _likeness(plain, name))
        for kind, name in kinds.items()
    }
    return sorted(scores, key=lambda name: -scores[name])[:_NAMED]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one[:200], other[:200]).ratio()

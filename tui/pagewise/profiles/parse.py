"""One file as a profile: its text, the keys that it has itself, and what is wrong with it, by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.position import key_line
from pagewise.profiles.schema import EXTENDS, KeyProblem, check_keys, convert, shown

GUIDE = "guide"
"""The value of ``model`` that means the model which ships with the program."""
MAX_FILE = 1024 * 1024
_NAME = re.compile(r"[^\W_][\w.+ -]{0,63}")


class ProfileFile(NamedTuple):
    """One file as it was read: only the keys that it has itself, its model path made absolute."""

    name: str
    path: Path
    shipped: bool
    text: str
    values: dict[str, Any]


def check_name(name: str) -> None:
    """Raises ProfileError unless ``name`` can be a profile's name and the stem of its file."""
    if not _NAME.fullmatch(name):
        raise ProfileError(
            Failure(
                f"{shown(name)!r} cannot be the name of a profile",
                "It is also a file's name: up to 64 letters, digits, spaces and . + - _, a letter or digit first.",
                "Choose another name.",
            )
        )


def parse_file(path: Path, content: bytes, *, shipped: bool = False) -> ProfileFile:
    """The profile that ``content``, read from ``path``, holds. Every key is checked. Raises ProfileError."""
    text, values = _parse(path, content)
    for problem in check_keys(values):
        raise located(path, text, problem)
    own = {key: value for key, value in values.items() if key != EXTENDS}
    base = values.get(EXTENDS)
    if base is not None and not isinstance(base, str):
        problem = KeyProblem(EXTENDS, "extends takes the name of a profile, in quotes", "Put the name in quotes.")
        raise located(path, text, problem)
    try:
        convert({"name": path.stem, **own})
    except KeyProblem as problem:
        raise located(path, text, problem) from problem
    name = own.get("name", path.stem)
    try:
        check_name(name)
    except ProfileError as error:
        failure = error.failure
        raise ProfileError(
            Failure(f"{shown_path(path)} cannot be used", f"{failure.what}. {failure.why}", failure.next)
        ) from error
    model = own.get("model")
    if isinstance(model, str) and model != GUIDE:
        values["model"] = _absolute(path, text, model)
    for adapter in values.get("lora", ()):
        adapter["path"] = _absolute(path, text, adapter["path"], "lora")
    return ProfileFile(name, path, shipped, text, values)


def _absolute(path: Path, text: str, named: str, key: str = "model") -> str:
    if not named or "\0" in named:
        takes = '"guide" or the path of a GGUF file' if key == "model" else "adapters with the path of a GGUF file each"
        raise located(path, text, KeyProblem(key, f"{key} takes {takes}", "Give the path of the file."))
    try:
        return str(path.parent.absolute() / Path(named).expanduser())
    except RuntimeError as error:
        raise located(
            path, text, KeyProblem(key, f"{key}: {error}", "Write the folder out instead of using ~.")
        ) from error


def _parse(path: Path, content: bytes) -> tuple[str, dict[str, Any]]:
    where = shown_path(path)
    if len(content) > MAX_FILE:
        raise ProfileError(
            Failure(
                f"{where} is not a profile",
                f"It has {len(content):,} bytes; a profile is a page.",
                "Choose a TOML file.",
            )
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ProfileError(
            Failure(
                f"{where}, line {line} is not text",
                "A profile is a TOML file in UTF-8, and this byte is not part of any letter.",
                "Save the file as UTF-8.",
            )
        ) from error
    try:
        return text, tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        line = getattr(error, "lineno", None) or 1
        raise ProfileError(
            Failure(
                f"{where}, line {line} cannot be read",
                f"It is not TOML: {shown(getattr(error, 'msg', str(error)), 200)}.",
                'A line is `key = value`; texts stand in "quotes".',
            )
        ) from error
    except (RecursionError, ValueError) as error:
        raise ProfileError(
            Failure(f"{where} cannot be read", "Its values are nested too deeply or too long.", "Write it more simply.")
        ) from error


def located(path: Path, text: str, problem: KeyProblem) -> ProfileError:
    """``problem`` as an error that names the file, and the line where the key stands."""
    line = key_line(text, problem.key)
    where = f"{shown_path(path)}, line {line}" if line else shown_path(path)
    return ProfileError(Failure(f"{where} cannot be used", f"{problem.why}.", problem.next))


def shown_path(path: Path) -> str:
    """A path as it may be put into a message."""
    return shown(str(path), 4096)

"""Reading profiles: the shipped ones, the user's, what they inherit, and overrides from a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import tomli

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.position import key_line
from pagewise.profiles.schema import (
    EXTENDS,
    KeyProblem,
    check_keys,
    convert,
    nearest,
    shown,
    takes_text,
)
from pagewise.profiles.shipped import shipped_folder
from pagewise.settings import Profile

DEFAULT = "guide"
GUIDE = "guide"
"""The value of ``model`` that means the model which ships with the program."""
MAX_FILE = 1024 * 1024
_NAME = re.compile(r"[^\W_][\w.+ -]{0,63}")
_NOT_INHERITED = frozenset({"name", "description", EXTENDS})


class ProfileFile(NamedTuple):
    """One file as it was read: only the keys that it has itself, its model path made absolute."""

    name: str
    path: Path
    shipped: bool
    text: str
    values: dict[str, Any]


class ProfileSet(NamedTuple):
    """Every profile that can be used, by name (shipped ones first), and what is wrong with the files that cannot."""

    profiles: dict[str, Profile]
    failures: tuple[Failure, ...]


def user_folder() -> Path:
    """Where the user's own profiles are looked for."""
    return platformdirs.user_config_path("pagewise") / "profiles"


def load_all(user: Path | None = None) -> ProfileSet:
    """All profiles. One that is broken costs only itself and those that extend it, and is told in ``failures``."""
    files, failures = _read_folders(user)
    profiles: dict[str, Profile] = {}
    for name in files:
        try:
            profiles[name] = _resolved(name, files)
        except ProfileError as error:
            failures.append(error.failure)
    return ProfileSet(profiles, tuple(dict.fromkeys(failures)))


def resolve(
    name: str | None, overrides: Sequence[str] = (), model: str | None = None, user: Path | None = None
) -> Profile:
    """The profile ``name`` with a command line's changes: ``model`` (a path), then ``key=value`` overrides.

    ``name`` None means the guide's profile; with a ``model`` it means the defaults of every key instead, under the
    file's name, since the guide's settings suit nothing but the guide. Raises ProfileError.
    """
    if name is None and model is not None and model != GUIDE:
        path = Path(model).expanduser().absolute()
        values: dict[str, Any] = {"name": shown(path.stem) or "model", "model": str(path)}
        return _converted(_overridden(values, overrides), "")
    chosen = name or DEFAULT
    files, failures = _read_folders(user)
    if chosen not in files:
        for failure in failures:
            if f"{chosen}.toml" in failure.what or f"{chosen}.toml" in failure.why:
                raise ProfileError(failure)
        raise ProfileError(_no_such(chosen, files))
    inherited = _inherited(chosen, files, ())
    values = {**inherited, "name": chosen}
    if model is not None:
        values["model"] = model if model == GUIDE else str(Path(model).expanduser().absolute())
        values.pop("quant", None)
    source = str(files[chosen].path)
    if not overrides:
        return _located(values, files[chosen], source)
    return _converted(_overridden(values, overrides), source)


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
        raise _at(path, text, problem)
    own = {key: value for key, value in values.items() if key != EXTENDS}
    base = values.get(EXTENDS)
    if base is not None and not isinstance(base, str):
        problem = KeyProblem(EXTENDS, "extends takes the name of a profile, in quotes", "Put the name in quotes.")
        raise _at(path, text, problem)
    try:
        convert({"name": path.stem, **own})
    except KeyProblem as problem:
        raise _at(path, text, problem) from problem
    name = own.get("name", path.stem)
    try:
        check_name(name)
    except ProfileError as error:
        failure = error.failure
        raise ProfileError(
            Failure(f"{_shown_path(path)} cannot be used", f"{failure.what}. {failure.why}", failure.next)
        ) from error
    model = own.get("model")
    if isinstance(model, str) and model != GUIDE:
        values["model"] = _absolute(path, text, model)
    return ProfileFile(name, path, shipped, text, values)


def _absolute(path: Path, text: str, model: str) -> str:
    if not model or "\0" in model:
        problem = KeyProblem("model", 'model takes "guide" or the path of a GGUF file', "Give the path of the file.")
        raise _at(path, text, problem)
    try:
        return str(path.parent.absolute() / Path(model).expanduser())
    except RuntimeError as error:
        problem = KeyProblem("model", f"model: {error}", "Write the folder out instead of using ~.")
        raise _at(path, text, problem) from error


def _parse(path: Path, content: bytes) -> tuple[str, dict[str, Any]]:
    where = _shown_path(path)
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


def _read_folders(user: Path | None) -> tuple[dict[str, ProfileFile], list[Failure]]:
    failures: list[Failure] = []
    shipped = _read_folder(shipped_folder("profiles"), True, failures)
    own = _read_folder(user or user_folder(), False, failures)
    files = {**shipped, **own}
    for name, file in own.items():
        if name in shipped and file.values.get(EXTENDS) == name:
            base = shipped[name]
            merged = _merged(base.values, file.values)
            if EXTENDS in base.values:
                merged[EXTENDS] = base.values[EXTENDS]
            else:
                merged.pop(EXTENDS, None)
            files[name] = file._replace(values=merged)
    return files, failures


def _read_folder(folder: Path, shipped: bool, failures: list[Failure]) -> dict[str, ProfileFile]:
    files: dict[str, ProfileFile] = {}
    try:
        paths = sorted(
            (path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith(".")),
            key=lambda path: path.stem,
        )
    except FileNotFoundError:
        return files
    except OSError as error:
        failures.append(
            Failure(
                f"The profiles in {_shown_path(folder)} cannot be read",
                f"The system says: {error.strerror or error}.",
                "Check the folder's permissions; the shipped profiles work meanwhile.",
            )
        )
        return files
    for path in paths:
        try:
            with path.open("rb") as file:
                read = parse_file(path, file.read(MAX_FILE + 1), shipped=shipped)
        except ProfileError as error:
            failures.append(error.failure)
        except OSError as error:
            failures.append(
                Failure(
                    f"{_shown_path(path)} cannot be read",
                    f"The system says: {error.strerror or error}.",
                    "Check the file's permissions.",
                )
            )
        else:
            if read.name in files:
                failures.append(
                    Failure(
                        f"Two files hold a profile named {read.name}",
                        f"{_shown_path(files[read.name].path)} is used, {_shown_path(path)} is not.",
                        "Give one of them another name.",
                    )
                )
            else:
                files[read.name] = read
    return files


def _resolved(name: str, files: dict[str, ProfileFile]) -> Profile:
    file = files[name]
    return _located({**_inherited(name, files, ()), "name": name}, file, str(file.path))


def _inherited(name: str, files: dict[str, ProfileFile], chain: tuple[str, ...]) -> dict[str, Any]:
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
        raise _at(file.path, file.text, problem)
    if base not in files:
        near = nearest(base, tuple(files))
        problem = KeyProblem(
            EXTENDS,
            f"It extends {shown(base)!r}, and there is no usable profile of that name",
            f"Did you mean {near}?" if near else f"There are: {', '.join(files)}.",
        )
        raise _at(file.path, file.text, problem)
    return _merged(_inherited(base, files, chain), file.values)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in base.items() if key not in _NOT_INHERITED}
    for key, value in own.items():
        if key == EXTENDS:
            continue
        if key == "sampling" and isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    if "model" in own and "quant" not in own:
        merged.pop("quant", None)
    return merged


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for override in overrides:
        key, equals, raw = override.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ProfileError(
                Failure(
                    f"--set {shown(override)!r} cannot be read",
                    "An override is key=value.",
                    "Such as --set n_ctx=8192 or --set sampling.temperature=0.",
                )
            )
        table, dot, inner = key.partition(".")
        value = _override_value(key, raw.strip())
        if key in ("name", "source", EXTENDS):
            raise _of_override(KeyProblem(key, f"{key} cannot be overridden", "Choose the profile with --profile."))
        change = {table: {inner: value}} if dot else {key: value}
        for problem in check_keys(change):
            raise _of_override(problem)
        if dot and table != "sampling":
            raise _of_override(KeyProblem(key, f"{table} has no keys of its own", f"Set {table} itself."))
        if dot:
            merged[table] = {**merged.get(table, {}), inner: value}
        elif key == "model" and isinstance(value, str) and value != GUIDE:
            merged[key] = str(Path(value).expanduser().absolute())
        else:
            merged[key] = value
        try:
            convert({**change, "name": "-"})
        except KeyProblem as problem:
            raise _of_override(problem) from problem
    return merged


def _override_value(key: str, raw: str) -> Any:
    if takes_text(key) and raw[:1] not in ('"', "'"):
        return raw
    try:
        parsed = tomli.loads(f"value = {raw}")
    except (tomli.TOMLDecodeError, RecursionError, ValueError):
        return raw
    return parsed["value"] if len(parsed) == 1 else raw


def _of_override(problem: KeyProblem) -> ProfileError:
    return ProfileError(Failure(f"--set {shown(problem.key)} cannot be used", f"{problem.why}.", problem.next))


def _converted(values: dict[str, Any], source: str) -> Profile:
    try:
        return convert({**values, "source": source})
    except KeyProblem as problem:
        raise ProfileError(
            Failure(f"{source or 'The command line'} cannot be used", f"{problem.why}.", problem.next)
        ) from problem


def _located(values: dict[str, Any], file: ProfileFile, source: str) -> Profile:
    try:
        return convert({**values, "source": source})
    except KeyProblem as problem:
        raise _at(file.path, file.text, problem) from problem


def _no_such(name: str, files: dict[str, ProfileFile]) -> Failure:
    near = nearest(name, tuple(files))
    return Failure(
        f"There is no profile {shown(name)!r}",
        f"There are: {', '.join(files) or 'none'}.",
        f"Did you mean {near}?" if near else f"Put your own into {_shown_path(user_folder())}.",
    )


def _at(path: Path, text: str, problem: KeyProblem) -> ProfileError:
    line = key_line(text, problem.key)
    where = f"{_shown_path(path)}, line {line}" if line else _shown_path(path)
    return ProfileError(Failure(f"{where} cannot be used", f"{problem.why}.", problem.next))


def _shown_path(path: Path) -> str:
    return shown(str(path), 4096)

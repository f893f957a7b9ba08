"""Profiles by name: what inheriting and a command line's overrides make of the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.folders import read_folders
from pagewise.profiles.folders import user_folder as user_folder
from pagewise.profiles.inherit import inherited
from pagewise.profiles.parse import GUIDE, ProfileFile, located, shown_path
from pagewise.profiles.schema import EXTENDS, KeyProblem, check_keys, convert, nearest, shown, value_of
from pagewise.settings import Profile

DEFAULT = "guide"


class ProfileSet(NamedTuple):
    """Every profile that can be used, by name (shipped ones first), and what is wrong with the files that cannot."""

    profiles: dict[str, Profile]
    failures: tuple[Failure, ...]


def load_all(user: Path | None = None) -> ProfileSet:
    """All profiles. One that is broken costs only itself and those that extend it, and is told in ``failures``."""
    files, failures = read_folders(user)
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
    files, failures = read_folders(user)
    if chosen not in files:
        for failure in failures:
            if f"{chosen}.toml" in failure.what or f"{chosen}.toml" in failure.why:
                raise ProfileError(failure)
        raise ProfileError(_no_such(chosen, files))
    values = {**inherited(chosen, files), "name": chosen}
    if model is not None:
        values["model"] = model if model == GUIDE else str(Path(model).expanduser().absolute())
        values.pop("quant", None)
    source = str(files[chosen].path)
    if not overrides:
        return _located(values, files[chosen], source)
    return _converted(_overridden(values, overrides), source)


def overridden(profile: Profile, *overrides: str) -> Profile:
    """The profile with ``key=value`` overrides. Raises ProfileError."""
    values = msgspec.to_builtins(profile)
    source = values.pop("source")
    return _converted(_overridden(values, overrides), source)


def _resolved(name: str, files: dict[str, ProfileFile]) -> Profile:
    file = files[name]
    return _located({**inherited(name, files), "name": name}, file, str(file.path))


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
        value = value_of(key, raw.strip())
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
        raise located(file.path, file.text, problem) from problem


def _no_such(name: str, files: dict[str, ProfileFile]) -> Failure:
    near = nearest(name, tuple(files))
    return Failure(
        f"There is no profile {shown(name)!r}",
        f"There are: {', '.join(files) or 'none'}.",
        f"Did you mean {near}?" if near else f"Put your own into {shown_path(user_folder())}.",
    )

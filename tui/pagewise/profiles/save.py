"""Writing a profile's keys back to its file: comments and order stay as the person left them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pagewise.atomic import write_atomically
from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.folders import read_folders, user_folder
from pagewise.profiles.parse import check_name, parse_file, shown_path
from pagewise.profiles.schema import shown


def save(name: str, values: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Set dotted keys in the user's profile ``name``, made if it is not there; a value of None removes the key.

    Returns the file. It is replaced in one step, so that a full disk or a crash leaves the former one whole; what
    would not be a valid profile is not written. Raises ProfileError.
    """
    check_name(name)
    return save_to((folder or user_folder()) / f"{name}.toml", values)


def save_to(path: Path, values: Mapping[str, Any]) -> Path:
    """The same for the profile in the file ``path``."""
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritten(path, str(error)) from error
    return _write(path, text, values)


def save_new(name: str, text: str, values: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Make a new profile of the user: ``text`` (another one's, or empty) with ``values`` set. Raises ProfileError.

    A name that is taken is refused: nothing that exists is replaced.
    """
    check_new_name(name, folder)
    path = (folder or user_folder()) / f"{name}.toml"
    return _write(path, text, {"name": None, **values})


def check_new_name(name: str, folder: Path | None = None) -> None:
    """Raises ProfileError unless a new profile can be called ``name``."""
    check_name(name)
    files, _ = read_folders(folder)
    path = (folder or user_folder()) / f"{name}.toml"
    taken = files.get(name)
    if taken is not None or path.exists():
        there = "ships with pagewise" if taken is not None and taken.shipped else f"is {shown_path(path)}"
        raise ProfileError(Failure(f"There is a profile {shown(name)} already", f"It {there}.", "Choose another name."))


def delete(path: Path) -> None:
    """Delete a profile's file. Raises ProfileError."""
    try:
        path.unlink()
    except OSError as error:
        raise ProfileError(
            Failure(
                f"The profile {shown(path.stem)} was not deleted",
                f"{shown_path(path)}: {error.strerror or error}.",
                "Check the folder's permissions, or delete the file yourself.",
            )
        ) from error


def _write(path: Path, text: str, values: Mapping[str, Any]) -> Path:
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise _unwritten(path, str(error)) from error
    for key, value in values.items():
        _set(document, key, value)
    written = tomlkit.dumps(document).encode("utf-8")
    parse_file(path, written)
    try:
        write_atomically(path, written)
    except OSError as error:
        raise _unwritten(path, error.strerror or str(error)) from error
    return path


def _set(document: tomlkit.TOMLDocument, key: str, value: Any) -> None:
    table_name, _, inner = key.rpartition(".")
    table: Any = document
    if table_name:
        if table_name not in document:
            if value is None:
                return
            document[table_name] = tomlkit.table()
        table = document[table_name]
    if value is None:
        if inner in table:
            del table[inner]
    elif table.get(inner) != value:
        table[inner] = _item(value)


def _item(value: Any) -> Any:
    """Tables within a value stand on its own line: a profile is a page that one reads."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        array.extend([_item(entry) for entry in value])
        return array
    return value


def _unwritten(path: Path, why: str) -> ProfileError:
    return ProfileError(
        Failure(
            f"The profile {shown(path.stem)} was not saved",
            f"{shown_path(path)}: {shown(why, 200)}.",
            "The file is as it was. Check the folder's permissions and the free space, then save again.",
        )
    )

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
from pagewise.profiles.files import check_name, parse_file, user_folder
from pagewise.profiles.schema import shown


def save(name: str, values: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Set dotted keys in the user's profile ``name``, made if it is not there; a value of None removes the key.

    Returns the file. It is replaced in one step, so that a full disk or a crash leaves the former one whole; what
    would not be a valid profile is not written. Raises ProfileError.
    """
    check_name(name)
    path = (folder or user_folder()) / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        document = tomlkit.parse(text)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise _unwritten(path, str(error)) from error
    for key, value in values.items():
        _set(document, key, value)
    written = tomlkit.dumps(document)
    parse_file(path, written.encode("utf-8"))
    try:
        write_atomically(path, written.encode("utf-8"))
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
    else:
        table[inner] = list(value) if isinstance(value, tuple) else value


def _unwritten(path: Path, why: str) -> ProfileError:
    return ProfileError(
        Failure(
            f"The profile {shown(path.stem)} was not saved",
            f"{shown(str(path), 4096)}: {shown(why, 200)}.",
            "The file is as it was. Check the folder's permissions and the free space, then save again.",
        )
    )

"""The folders of profiles: the shipped one, and the user's own, whose files replace shipped ones of the same name."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.inherit import merged
from pagewise.profiles.parse import MAX_FILE, ProfileFile, parse_file, shown_path
from pagewise.profiles.schema import EXTENDS
from pagewise.profiles.shipped import shipped_folder


def user_folder() -> Path:
    """Where the user's own profiles are looked for."""
    return platformdirs.user_config_path("pagewise") / "profiles"


def shipped_files() -> dict[str, ProfileFile]:
    """Those that ship with the program, by name."""
    return _read_folder(shipped_folder("profiles"), True, [])


def read_folders(user: Path | None = None) -> tuple[dict[str, ProfileFile], list[Failure]]:
    """Every profile by name, shipped ones first, and what is wrong with files that hold none."""
    failures: list[Failure] = []
    shipped = _read_folder(shipped_folder("profiles"), True, failures)
    own = _read_folder(user or user_folder(), False, failures)
    files = {**shipped, **own}
    for name, file in own.items():
        if name in shipped and file.values.get(EXTENDS) == name:
            base = shipped[name]
            both = merged(base.values, file.values)
            if EXTENDS in base.values:
                both[EXTENDS] = base.values[EXTENDS]
            else:
                both.pop(EXTENDS, None)
            files[name] = file._replace(values=both)
    return files, failures


def extending(name: str, user: Path | None = None) -> tuple[str, ...]:
    """The user's profiles that take values from ``name``."""
    files, _ = read_folders(user)
    return tuple(file.name for file in files.values() if not file.shipped and file.values.get(EXTENDS) == name)


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
                f"The profiles in {shown_path(folder)} cannot be read",
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
                    f"{shown_path(path)} cannot be read",
                    f"The system says: {error.strerror or error}.",
                    "Check the file's permissions.",
                )
            )
        else:
            if read.name in files:
                failures.append(
                    Failure(
                        f"Two files hold a profile named {read.name}",
                        f"{shown_path(files[read.name].path)} is used, {shown_path(path)} is not.",
                        "Give one of them another name.",
                    )
                )
            else:
                files[read.name] = read
    return files

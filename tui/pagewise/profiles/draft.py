"""A profile while it is being edited: what is typed, what it comes to, and what saving it would write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from pagewise.profiles.fields import as_in_file, default_of, fields
from pagewise.profiles.folders import read_folders, shipped_files
from pagewise.profiles.inherit import NOT_INHERITED, inherited
from pagewise.profiles.parse import GUIDE, ProfileFile, parse_file
from pagewise.profiles.save import save_new, save_to
from pagewise.profiles.schema import EXTENDS, KeyProblem, convert, takes_text, value_of
from pagewise.settings import Profile

Origin = Literal["changed", "own", "inherited", "default"]


class Typed(NamedTuple):
    """A text that cannot be a key's value, and why."""

    text: str
    problem: KeyProblem


class Draft:
    """Values come from what was changed here, else from the profile's own file, else from what it extends."""

    def __init__(
        self,
        name: str,
        path: Path | None,
        text: str,
        own: Mapping[str, Any],
        below: Mapping[str, Any],
        extends: str | None,
        read_only: bool,
    ) -> None:
        """``own`` and ``below``: by dotted key, as a file has them. ``path`` None: it is in no file yet."""
        self.name = name
        self.path = path
        self.extends = extends
        """The profile that it takes its other values from."""
        self.read_only = read_only
        """It ships with the program: it can only be saved under another name."""
        self.wrong: dict[str, Typed] = {}
        """Keys whose text is no value; the value before it still counts."""
        self._text = text
        self._own = dict(own)
        self._below = dict(below)
        self._changes: dict[str, Any] = {}

    # ---- what it is -------------------------------------------------------------------------------------------------

    def value(self, key: str) -> Any:
        """The value in effect of a dotted key, as a file would have it."""
        for values in (self._given(), self._below):
            if key in values:
                return values[key]
        return default_of(key)

    def origin(self, key: str) -> Origin:
        """Where that value comes from."""
        if key in self._changes:
            return "changed"
        return "own" if key in self._own else "inherited" if key in self._below else "default"

    def before(self, key: str) -> Any:
        """The value without what was changed here."""
        if key in self._own:
            return self._own[key]
        return self._below[key] if key in self._below else default_of(key)

    @property
    def changed(self) -> bool:
        """Whether anything differs from the file."""
        return bool(self._changes)

    def profile(self) -> Profile:
        """The profile that the values make: those typed last that were right."""
        values = {**self._below, **self._given()}
        if "model" in self._given() and "quant" not in self._given():
            values.pop("quant", None)
        source = "" if self.path is None else str(self.path)
        return convert({**nested(values), "name": self.name, "source": source})

    def _given(self) -> dict[str, Any]:
        """Own values as they would be saved."""
        values = {**self._own, **self._changes}
        return {key: value for key, value in values.items() if value is not None}

    # ---- editing ----------------------------------------------------------------------------------------------------

    def type(self, key: str, text: str) -> None:
        """``text`` is what the person has typed for the key; nothing at all takes the key back."""
        self.wrong.pop(key, None)
        if text == text_of(self.before(key)):
            self._changes.pop(key, None)
            return
        if not text and not (takes_text(key) and self._below.get(key)):
            self.reset(key)
            return
        value = value_of(key, text)
        try:
            convert({"name": "-", **nested({key: value})})
            if key == "model" and not str(value).strip():
                raise KeyProblem(key, 'model takes "guide" or the path of a GGUF file', "Give the path of the file.")
        except KeyProblem as problem:
            self.wrong[key] = Typed(text, problem)
            return
        if key == "model" and value != GUIDE:
            value = str((self.path.parent if self.path else Path.cwd()) / Path(value).expanduser())
        self._changes[key] = value

    def take(self, profile: Profile) -> None:
        """Change every key in which ``profile`` differs."""
        for field in fields():
            value = _present(profile, field.key)
            if value != self.value(field.key):
                self.wrong.pop(field.key, None)
                self._changes[field.key] = value

    def reset(self, key: str) -> None:
        """Back to what is inherited, or the default."""
        self.wrong.pop(key, None)
        if key in self._own:
            self._changes[key] = None
        else:
            self._changes.pop(key, None)

    def text(self, key: str) -> str:
        """What stands in the line that is typed in."""
        return self.wrong[key].text if key in self.wrong else text_of(self.value(key))

    # ---- saving -----------------------------------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the changes into its file. Raises ProfileError."""
        assert self.path is not None and not self.read_only
        save_to(self.path, self._changes)
        return self.path

    def save_as(self, name: str, folder: Path | None = None) -> Path:
        """Write it as another profile, with the comments and the order of this one. Raises ProfileError."""
        values = dict(self._changes)
        if "model" in self._own:
            values.setdefault("model", self._own["model"])
        if not self._text and self.extends is not None:
            values = {EXTENDS: self.extends, **values}
        return save_new(name, self._text, values, folder)


def open_draft(profile: Profile, folder: Path | None = None) -> Draft:
    """The profile of a file, to be edited. One that is in no file is given as one whose every value was changed."""
    files, _ = read_folders(folder)
    file = files.get(profile.name)
    if file is None or str(file.path) != profile.source:
        return new_draft(profile, folder)
    own = _own(file)
    extends = own.pop(EXTENDS, None)
    if extends == profile.name:
        files = shipped_files()
    below = _below(extends, files) if isinstance(extends, str) else {}
    if "model" in own:
        below.pop("quant", None)
    own.pop("name", None)
    return Draft(profile.name, file.path, file.text, own, below, extends, file.shipped)


def new_draft(profile: Profile, folder: Path | None = None) -> Draft:
    """A profile that would make the present state: what it has beyond the file that it came from is changed."""
    files, _ = read_folders(folder)
    file = files.get(profile.name)
    extends = profile.name if file is not None and str(file.path) == profile.source else None
    below = _below(extends, files) if extends is not None else {}
    now = {field.key: _present(profile, field.key) for field in fields()}
    if any(value is None and below.get(key) is not None for key, value in now.items()):
        # TOML has no word for "not set": what is inherited could not be taken back.
        extends, below = None, {}
    draft = Draft(profile.name, None, "", {}, below, extends, True)
    draft._changes = {key: value for key, value in now.items() if value != draft.before(key)}
    return draft


def _present(profile: Profile, key: str) -> Any:
    table, _, inner = key.partition(".")
    return as_in_file(getattr(profile.sampling if inner else profile, inner or table))


def _own(file: ProfileFile) -> dict[str, Any]:
    """What its file says itself: of one that replaces a shipped one of its name, too."""
    values = parse_file(file.path, file.text.encode("utf-8")).values
    return dict(_flat(values))


def _below(extends: str, files: dict[str, ProfileFile]) -> dict[str, Any]:
    return {key: value for key, value in _flat(inherited(extends, files)) if key not in NOT_INHERITED}


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key == "sampling":
            yield from ((f"sampling.{inner}", entry) for inner, entry in value.items())
        else:
            yield key, value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as tables."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        table, _, inner = key.partition(".")
        if inner:
            tables.setdefault(table, {})[inner] = value
        else:
            tables[key] = value
    return tables


def text_of(value: Any) -> str:
    """A value as it is typed: texts without quotes where they are one plain line, the rest as in TOML."""
    if value is None or value == []:
        return ""
    if isinstance(value, str):
        plain = value.isprintable() and value[:1] not in ('"', "'") and value == value.strip()
        return value if plain else _quoted(value)
    return _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(entry)}' for key, entry in value.items())} }}"
    return str(value)


def _quoted(text: str) -> str:
    # A JSON text is a TOML text too, but for DEL, which TOML wants escaped.
    return msgspec.json.encode(text).decode("utf-8").replace("\x7f", "\\u007f")

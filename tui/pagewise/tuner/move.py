"""One change that may be tried."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from pagewise.settings import Profile

_SILENT = ("name", "description", "source", "fit_margin")


class Move(Struct, frozen=True):
    """Keys of a profile with the values to try."""

    changes: tuple[tuple[str, Any], ...]
    why: str
    """In a clause, for the person."""
    expected: float
    """How many times better it may be: decides what is tried first, and nothing else."""
    cheap: bool
    """Whether nothing is loaded for it (class live or context)."""

    @property
    def keys(self) -> frozenset[str]:
        """What it changes."""
        return frozenset(key for key, _ in self.changes)

    def applied(self, profile: Profile) -> Profile:
        """The profile with it."""
        return msgspec.structs.replace(profile, **dict(self.changes))

    def alters(self, profile: Profile) -> bool:
        """Whether it changes anything there."""
        return any(getattr(profile, key) != value for key, value in self.changes)


def described(before: Profile, changes: tuple[tuple[str, Any], ...]) -> tuple[str, ...]:
    """What changes, as ``key: old → new``; ``before`` says what is in force."""
    return tuple(
        f"{key}: {_shown(key, getattr(before, key))} → {_shown(key, value)}"
        for key, value in changes
        if getattr(before, key) != value
    )


def signature(profile: Profile) -> tuple[object, ...]:
    """Equal for profiles that run alike; what is to stay free is a wish, and no way to run."""
    return tuple(getattr(profile, key) for key in Profile.__struct_fields__ if key not in _SILENT)


def _shown(key: str, value: Any) -> str:
    if key == "model":
        return str(value).rpartition("/")[2]
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)

"""What a tune found, as a profile of the person's own."""

from __future__ import annotations

from typing import Any

import msgspec

from pagewise.jobs.tune import TUNED
from pagewise.settings import Profile


def found_profile(asked: Profile, best: Profile) -> Profile:
    """The profile that was asked for with what the tuner chose: context, sampling and probe stay the person's."""
    return msgspec.structs.replace(asked, **{key: getattr(best, key) for key in TUNED})


def keys_of(profile: Profile) -> dict[str, Any]:
    """What its file must say: each key that is not as by default, those of a table dotted."""
    found: dict[str, Any] = {}
    default = Profile(name="")
    for key in Profile.__struct_fields__:
        value, usual = getattr(profile, key), getattr(default, key)
        if key in ("name", "source") or value == usual:
            continue
        if isinstance(value, msgspec.Struct) and type(value) is type(usual):
            inner = value.__struct_fields__
            found |= {
                f"{key}.{name}": getattr(value, name) for name in inner if getattr(value, name) != getattr(usual, name)
            }
        else:
            found[key] = msgspec.to_builtins(value)
    return found

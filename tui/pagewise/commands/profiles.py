"""``pagewise profiles``: the profiles that there are, and what is wrong with those that cannot be used."""

from __future__ import annotations

from pagewise.app.visible import visible_line
from pagewise.commands.output import as_json
from pagewise.commands.problem import block
from pagewise.messages import Failure
from pagewise.profiles.files import load_all, user_folder
from pagewise.profiles.schema import expected, valid_keys
from pagewise.settings import Profile


def run(json: bool) -> tuple[str, tuple[Failure, ...]]:
    """The text for standard output, and the failures of profiles that could not be read."""
    found = load_all()
    if json:
        return as_json({"folder": str(user_folder()), "profiles": found.profiles, "failures": found.failures}), ()
    width = max((len(name) for name in found.profiles), default=0)
    lines = [_line(profile, width) for profile in found.profiles.values()]
    lines += [
        "",
        f"Your own go into {visible_line(str(user_folder()))}; a file there replaces a shipped one of its name.",
    ]
    return "\n".join(lines), found.failures


def keys() -> str:
    """Every key that a profile may have, and what it takes."""
    width = max(len(key) for key in valid_keys())
    return "\n".join(f"{key:<{width}}  {expected(key)}" for key in valid_keys())


def failures_text(failures: tuple[Failure, ...]) -> str:
    """Their blocks, for standard error."""
    return "\n".join(block(failure) for failure in failures)


def _line(profile: Profile, width: int) -> str:
    model = profile.model if profile.quant is None else f"{profile.model} at {profile.quant}"
    return f"{profile.name:<{width}}  {visible_line(profile.description or model)}"

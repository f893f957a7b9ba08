"""``pagewise export`` and ``pagewise import``: profiles for other programs, and from llama-server's command lines."""

from __future__ import annotations

import shlex
from pathlib import Path

from pagewise.app.visible import visible_line
from pagewise.guide.cache import provide
from pagewise.guide.files import GuideError
from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.exchange.read import Imported, read_command_line
from pagewise.profiles.exchange.write import export
from pagewise.profiles.folders import read_folders
from pagewise.profiles.parse import GUIDE
from pagewise.profiles.save import save_new
from pagewise.profiles.schema import shown
from pagewise.settings import Profile

_MOST_SHOWN = 400


def run(profile: Profile, to: str) -> str:
    """The profile in the form of the program ``to``. Raises ProfileError or GuideError."""
    return export(profile, to, _model_path(profile))


def _model_path(profile: Profile) -> str:
    if profile.model != GUIDE:
        return profile.model
    path, note = provide(profile.quant, _not_made)
    if note:
        raise GuideError(
            Failure(
                f"The guide at {shown(str(profile.quant))} is not made yet",
                "Other programs need its file.",
                f"Ask it once: pagewise ask hello --profile {shlex.quote(profile.name)}",
            )
        )
    return str(path)


def _not_made(source: Path, target: Path, quant: str) -> None:
    raise RuntimeError("making it is for an engine")


def take(words: tuple[str, ...], name: str | None) -> str:
    """Make a profile of a command line; the answer is what to tell the person. Raises ProfileError."""
    text = words[0] if len(words) == 1 else shlex.join(words)
    imported = read_command_line(text)
    chosen = name if name is not None else _free_name(imported)
    lines = [f"# Taken by `pagewise import` from: {shown(' '.join(text.split()), _MOST_SHOWN)}"]
    if imported.remarks:
        lines += ["# Not taken over:", *(f"#   {remark}" for remark in imported.remarks)]
    path = save_new(chosen, "\n".join([*lines, ""]), imported.values)
    told = [f"{visible_line(chosen)} is saved: {visible_line(str(path))}"]
    if imported.remarks:
        told += ["Not taken over:", *(f"  {visible_line(remark)}" for remark in imported.remarks)]
    return "\n".join(told)


def _free_name(imported: Imported) -> str:
    files, _ = read_folders()
    names = (imported.name, *(f"{imported.name[:57]}-{number}" for number in range(2, 1000)))
    free = next((name for name in names if name not in files), None)
    if free is None:
        raise ProfileError(Failure("There are too many profiles of this name", "They are numbered.", "Give --name."))
    return free

"""What is asked of the tuner from the conversation, and where what it finds is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import App

from pagewise.app.tuning.found import keys_of
from pagewise.jobs.tune import Aim, Tune
from pagewise.settings import Profile

Save = Callable[[Profile, Callable[[Path | None], None]], None]
_MESSAGE, _REPLY = 128, 48


def tune_of(profile: Profile) -> Callable[[int], Tune]:
    """A tune in place, behind what the conversation holds."""
    return lambda id: Tune(id, profile, Aim("chat", _MESSAGE, _REPLY, 0), most_trials=12, in_place=True, fresh=True)


def saver(app: App[Any]) -> Save:
    """Opens the sheet that asks for a name."""

    def ask(found: Profile, saved: Callable[[Path | None], None]) -> None:
        from pagewise.app.screens.profile_name import NameScreen
        from pagewise.profiles.save import save

        keys = keys_of(found)
        app.push_screen(NameScreen("Save as profile", f"{found.name}-tuned", lambda name: save(name, keys)), saved)

    return ask

"""``pagewise``: the chat, under the profile that was asked for, or else the last one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.files import DEFAULT, resolve
from pagewise.profiles.schema import nearest, shown
from pagewise.profiles.state import recall
from pagewise.settings import Profile

LAST_PROFILE = "profile"


def run(
    name: str | None,
    overrides: Sequence[str],
    model: str | None,
    theme: str | None,
    continue_last: bool,
    record: Path | None = None,
) -> None:
    """Open the chat; returns when the person quits.

    Raises ProfileError, ThemeError or RecordError before the screen is touched.
    """
    profile, failure = starting_profile(name, overrides, model)
    from pagewise.app.app import PagewiseApp
    from pagewise.app.entries import Remark
    from pagewise.client import HostClient

    if theme is not None:
        check_theme(theme)
    with contextlib.ExitStack() as stack:
        keep = None
        if record is not None:
            from pagewise.record.recorder import Recorder

            keep = stack.enter_context(Recorder(record, "chat")).take
        app = PagewiseApp(profile, HostClient(record=keep), continue_last=continue_last, theme=theme)
        if failure is not None:
            app.session.entries.append(Remark(failure=failure))
        app.run()


class ThemeError(Exception):
    """A theme that was asked for and is not there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


def check_theme(name: str) -> None:
    """Raises ThemeError unless there is a theme of this name."""
    from pagewise.app.themes import load_themes

    themes = load_themes().themes
    if name not in themes:
        near = nearest(name, tuple(themes))
        raise ThemeError(
            Failure(
                f"There is no theme {shown(name)!r}",
                f"There are: {', '.join(themes)}.",
                f"Did you mean {near}?" if near else "Your own go into the themes folder of the configuration folder.",
            )
        )


def starting_profile(name: str | None, overrides: Sequence[str], model: str | None) -> tuple[Profile, Failure | None]:
    """The profile to begin with. One that was remembered and cannot be used gives way to the guide, with the reason.

    Raises ProfileError for what was asked for by name.
    """
    if name is None and model is None:
        last = recall(LAST_PROFILE)
        if last is not None and last != DEFAULT:
            try:
                return resolve(last, overrides), None
            except ProfileError as error:
                return resolve(DEFAULT, overrides), error.failure
    return resolve(name, overrides, model), None

"""Profiles that are edited outside while the program runs: noticed, and the one in force offered anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagewise.app.visible import visible_line
from pagewise.messages import ChangeClass, Failure

if TYPE_CHECKING:
    from pagewise.profiles.files import ProfileSet
    from pagewise.profiles.watch import Seen
    from pagewise.settings import Profile

LOOK_S = 2.0
"""How often the folder is looked at."""
KEY = "^T"
_TAKES: dict[ChangeClass, str] = {
    "none": "nothing of it needs a load",
    "live": "live: takes effect with the next token",
    "context": "context: makes a new context, the weights stay",
    "model": "model: loads the weights again",
    "process": "process: starts a new engine",
}


class OutsideEdits:
    """What was on the disk before, and what is offered. ``look`` may be called in a thread, the rest may not."""

    def __init__(self) -> None:
        self.offered: Profile | None = None
        """The profile in force as its file is now."""
        self._seen: Seen | None = None
        self._known: dict[str, Profile] = {}

    def look(self) -> ProfileSet | None:
        """All profiles, if any file has changed since the last look; the first look has them all."""
        from pagewise.profiles.files import load_all, user_folder
        from pagewise.profiles.watch import look

        seen = look(user_folder())
        if seen == self._seen:
            return None
        self._seen = seen
        return load_all()

    def compare(self, found: ProfileSet, now: Profile | None) -> str | Failure | None:
        """What to say about the profile in force, if it is another one on the disk now."""
        before, self._known = self._known, found.profiles
        if now is None or not now.source or now.name not in before:
            return None
        new = found.profiles.get(now.name)
        if new == before[now.name]:
            return None
        self.offered = None
        if new is None:
            broken = next((failure for failure in found.failures if now.source in failure.what), None)
            if broken is not None:
                return Failure(broken.what, broken.why, f"{now.name} goes on as it was loaded. {broken.next}")
            return f"The file of {visible_line(now.name)} is gone from the disk; the profile goes on as it was loaded."
        from pagewise.profiles.cost import change_class

        change, reasons = change_class(now, new)
        if change == "none":
            return None
        self.offered = new
        told = f" ({visible_line(', '.join(reasons))})" if reasons else ""
        return f"{visible_line(now.name)} changed on disk{told}. Press {KEY} to take it: {_TAKES[change]}."

    def take(self) -> Profile | None:
        """What is offered, which is then offered no more."""
        offered, self.offered = self.offered, None
        return offered

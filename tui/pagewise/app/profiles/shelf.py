"""The profiles as they stand in the switcher: from their files, with what was stepped to without saving it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from pagewise.app.profiles.dial import Level, at, draw_dial, levels, stepped
from pagewise.app.profiles.rows import GUIDE
from pagewise.app.spans import Line
from pagewise.jobs.catalog import Catalog
from pagewise.messages import ChangeClass, Failure
from pagewise.settings import Profile

if TYPE_CHECKING:
    from pagewise.jobs.quantize import Quantized
    from pagewise.profiles.files import ProfileSet


class Shelf:
    """What there is to choose from."""

    def __init__(self) -> None:
        self.files: list[Profile] = []
        """As the files say."""
        self.broken: tuple[Failure, ...] = ()
        self.catalog: Catalog | None = None
        self._variants: dict[str, Profile] = {}
        self._to_make: dict[str, Level] = {}

    @property
    def profiles(self) -> list[Profile]:
        """As they would be put in force now."""
        return [self._variants.get(profile.name, profile) for profile in self.files]

    def show(self, found: ProfileSet, now: Profile | None) -> None:
        """The files have been read; ``now`` is the profile in force, which may be in none of them."""
        is_first = not self.files
        self.broken = found.failures
        self.files = list(found.profiles.values())
        if now is not None and now.name not in found.profiles:
            self.files.insert(0, now)
        elif is_first and now is not None and now.model == GUIDE == found.profiles[now.name].model:
            self._variants[now.name] = msgspec.structs.replace(found.profiles[now.name], quant=now.quant)

    def vary(self, profile: Profile) -> None:
        """From now on the profile of this name is this one, unsaved."""
        self._variants[profile.name] = profile

    def is_varied(self, name: str) -> bool:
        """Whether it is another one than its file says."""
        return name in self._variants

    def settle(self, name: str) -> None:
        """It is as its file says again."""
        self._variants.pop(name, None)
        self._to_make.pop(name, None)

    def change(
        self, now: Profile | None, profile: Profile, held: Iterable[Profile] = ()
    ) -> tuple[ChangeClass, tuple[str, ...]]:
        """What putting ``profile`` in force costs, and why. ``held``: profiles whose models are kept in memory."""
        from pagewise.profiles.cost import change_class, takes_up

        change, reasons = change_class(now, profile)
        if change in ("model", "process") and any(takes_up(kept, profile) for kept in held):
            return "held", ()
        if now is not None and profile.name != now.name and change == "none":
            change = "live"
        return change, reasons

    # ---- quant levels -----------------------------------------------------------------------------------------------

    def to_make(self, profile: Profile) -> Level | None:
        """The level at which its dial stands, if that has to be made first."""
        return self._to_make.get(profile.name)

    def step(self, profile: Profile, by: int) -> Level | None:
        """Turn its dial; a level that has to be made is the answer."""
        stops = levels(profile, self.catalog)
        here = at(profile, stops, self.catalog)
        to_make = self._to_make.pop(profile.name, None)
        if not stops:
            return None
        if to_make in stops:
            here = stops.index(to_make)
        level = stops[len(stops) - 1 if here is None else max(0, min(here + by, len(stops) - 1))]
        if level.to_make:
            self._to_make[profile.name] = level
            return level
        self.vary(stepped(profile, level))
        return None

    def made(self, made: Quantized) -> None:
        """A level is there now: profiles whose dial stands at it take its file."""
        for profile in self.files:
            level = self._to_make.get(profile.name)
            if level is not None and (level.path, level.quant) == (made.source, made.level):
                del self._to_make[profile.name]
                self.vary(msgspec.structs.replace(profile, model=made.path, quant=None))

    def has_dial(self, profile: Profile) -> bool:
        """Whether its model has more levels than one."""
        return len(levels(profile, self.catalog)) > 1

    def draw_dial(self, profile: Profile, width: int) -> list[Line]:
        """Its dial, if it has one."""
        stops, to_make = levels(profile, self.catalog), self.to_make(profile)
        here = stops.index(to_make) if to_make in stops else at(profile, stops, self.catalog)
        return [draw_dial(stops, here, width)] if len(stops) > 1 else []

    def quant(self, profile: Profile) -> str:
        """The level in a word."""
        stops = levels(profile, self.catalog)
        here = at(profile, stops, self.catalog)
        return profile.quant or (stops[here].quant if here is not None else "as is")

    def best(self, profile: Profile) -> str:
        """The level that others would be made of."""
        there = [level for level in levels(profile, self.catalog) if not level.to_make]
        return there[-1].quant if there else ""

"""Switches of profiles as a person sees them: what came of the last one, the way back, and what is held beside."""

from __future__ import annotations

from pagewise import messages
from pagewise.app.effect import Effects
from pagewise.app.entries import Entry, Outcome
from pagewise.app.figures import count, duration
from pagewise.app.visible import visible_line
from pagewise.settings import Profile


class Switches:
    """Follows loads and replies; the line about the last switch stands in ``entries`` until it is dismissed."""

    def __init__(self, entries: list[Entry]) -> None:
        self.former: Profile | None = None
        """The profile that was in force before the last switch."""
        self.kept: tuple[str, ...] = ()
        """Names of the profiles whose models are held in memory beside the one in force."""
        self._entries = entries
        self._effects = Effects()
        self._outcome: Outcome | None = None
        self._last: Profile | None = None
        self._loaded: dict[str, Profile] = {}

    @property
    def held(self) -> tuple[Profile, ...]:
        """The profiles in ``kept``, as they were loaded."""
        return tuple(self._loaded[name] for name in self.kept if name in self._loaded)

    @property
    def has_outcome(self) -> bool:
        """Whether the line about the last switch stands there."""
        return self._outcome is not None and self._outcome in self._entries

    def loaded(self, event: messages.Loaded, asked: bool) -> None:
        """A profile is in force; ``asked``: because the person switched to it."""
        if asked and event.change != "none" and self._last not in (None, event.profile):
            self.former = self._last
            self._effects.switched(event.profile.name)
        else:
            self._effects.in_force(event.profile.name)
        self._last = self._loaded[event.profile.name] = event.profile

    def asked(self) -> None:
        """A question was sent."""
        self._effects.asked()

    def take(self, event: messages.Event) -> bool:
        """Take replies and readings. Whether what a switch changed is known with this one, and stands there now."""
        effect = self._effects.take(event)
        if effect is None:
            return False
        self.dismiss()
        self._outcome = Outcome(effect)
        self._entries.append(self._outcome)
        return True

    def dismiss(self) -> bool:
        """Take the line away. False if there is none."""
        there = self.has_outcome
        if self._outcome is not None and there:
            self._entries.remove(self._outcome)
        self._outcome = None
        return there


def switched(event: messages.Loaded) -> str:
    """What was switched to, how long it took, and whether the conversation came along."""
    profile, model = event.profile, event.model
    took = f"in {duration(event.total_ms)}"
    how = {
        "none": "nothing had to change",
        "live": "in effect at once",
        "context": f"new context {took}",
        "model": f"loaded {took}",
        "process": f"loaded by a new engine {took}",
        "held": "at once: it was still held",
    }[event.change]
    if event.kv_carried:
        how += f"; {count(event.kv_carried)} tokens of the conversation came along"
    elif event.kv_note:
        how += f"; the conversation is read again: {visible_line(event.kv_note)}"
    return f"Now {visible_line(profile.name)}: {visible_line(model.name)} {visible_line(model.quant)}, {how}"

"""What a switch of profiles changed: the figures of the last reply before it, and of the first one after."""

from __future__ import annotations

from dataclasses import dataclass

from pagewise import messages
from pagewise.readings import Snapshot, TurnTiming


@dataclass(frozen=True)
class Figures:
    """Of one reply, and of memory at its end. None: not known, or there is none of it."""

    profile: str
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    vram_bytes: int | None = None
    ram_bytes: int | None = None
    page_in_bytes_s: float | None = None
    cold: bool = False
    """The first reply after a load: pages and caches were cold."""


@dataclass(frozen=True)
class Effect:
    """Before a switch and after it."""

    before: Figures
    after: Figures


class Effects:
    """Watches replies and readings. ``take`` gives the effect of a switch once it is known."""

    def __init__(self) -> None:
        self._last: Figures | None = None
        """Of the last reply under the profile in force."""
        self._before: Figures | None = None
        """Of the last reply before the switch whose effect is waited for."""
        self._profile = ""
        self._timing: TurnTiming | None = None
        """Of a reply whose memory is not read yet."""
        self._page_ins: list[float] = []

    def switched(self, profile: str) -> None:
        """The person brought this profile in force."""
        self._before = self._last or Figures(self._profile)
        self._last = None
        self.in_force(profile)

    def in_force(self, profile: str) -> None:
        """This one is in force, whatever the reason."""
        self._profile = profile
        self._timing = None
        self._page_ins.clear()

    def take(self, event: messages.Event) -> Effect | None:
        """What this event completes, if anything."""
        match event:
            case messages.Finished(timing=timing) if timing is not None and timing.tpot_ms is not None:
                self._timing = timing
            case messages.Reading(snapshot=snapshot):
                return self._read(snapshot)
        return None

    def asked(self) -> None:
        """A question was sent."""
        self._page_ins.clear()
        self._timing = None

    def _read(self, snapshot: Snapshot) -> Effect | None:
        if snapshot.paging is not None and snapshot.paging.page_in_bytes_s is not None:
            self._page_ins.append(snapshot.paging.page_in_bytes_s)
        timing, self._timing = self._timing, None
        if timing is None:
            return None
        ours = [device.ours_bytes for device in snapshot.devices.devices if device.ours_bytes is not None]
        self._last = Figures(
            self._profile,
            timing.ttft_ms,
            timing.tpot_ms,
            sum(ours) if ours else None,
            snapshot.memory.engine_rss_bytes,
            sum(self._page_ins) / len(self._page_ins) if self._page_ins else None,
            timing.cold,
        )
        before, self._before = self._before, None
        return None if before is None else Effect(before, self._last)

"""One turn as the host sees it: what the box and the engine did from the first token to the last."""

from __future__ import annotations

import time

from pagewise.host.energy import EnergyMeter
from pagewise.instruments.counters import Counters, Counts
from pagewise.messages import Generate
from pagewise.readings import DeviceMemory, LayerClock, Snapshot

_TOKENS_TAG = b"\xa6Tokens"
_TAG_AT_MOST = 16


class Turn:
    """Collects what a verdict needs. The token path is only looked at for the tag of its first frame."""

    def __init__(self, command: Generate, pid: int) -> None:
        self.command = command
        self.sent_at = time.monotonic()
        self.answered = False
        """Whether the engine has said anything of this turn."""
        self.stop_asked_at: float | None = None
        self.clocks: list[LayerClock] = []
        self.devices: list[tuple[DeviceMemory, ...]] = []
        self.before: Counts | None = None
        """At the first token; None before it."""
        self.energy: EnergyMeter | None = None
        """Runs from the first token on, where a device holds the model."""
        self._counters = Counters(pid)

    def on_stream(self, payload: bytes) -> bool:
        """A frame of the token path has passed. Whether it was the first token."""
        self.answered = True
        if self.before is not None or _TOKENS_TAG not in payload[:_TAG_AT_MOST]:
            return False
        self.before = self._counters.read()
        return True

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """What the instruments said while it ran; only what was seen while tokens came counts."""
        if self.before is not None:
            self.devices.append(snapshot.devices.devices)

    @property
    def pressure_scope(self) -> str:
        """Whose waiting the pressure counters count: ``cgroup`` or ``box``."""
        return self._counters.pressure_scope

    def counts(self) -> Counts:
        """The counters now."""
        return self._counters.read()

    def close(self) -> None:
        """Lets go of the counters."""
        self._counters.close()
        if self.energy is not None:
            self.energy.close()

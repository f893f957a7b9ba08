"""Traffic between NVIDIA devices and the machine, and what their links can carry, from NVML.

The driver counts bytes for 20 ms and answers only then. It is therefore asked in a thread of its own, which neither the
readings nor the end of the program wait for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from pagewise.instruments.nvml import NotHere, Questions

_SENT, _RECEIVED = 0, 1
"""``nvmlPcieUtilCounter_t``, as the device sees it."""
_KB = 1000.0
_PATIENCE_S = 3.0
_STALE_S = 5.0
_LANE_BYTES_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""What one lane carries in one direction, by generation, encoding taken off."""


class Traffic(NamedTuple):
    """Bytes a second to and from a device over 20 ms; ``why`` where there is no figure."""

    received: float | None
    sent: float | None
    why: str = ""


def link_peak(nvml: Any, handle: Any) -> float:
    """Bytes a second that the link carries in one direction as it is now: an idle one may have been slowed down.

    Raises NotHere for a generation that is not known, and NVML's error.
    """
    generation: int = nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
    width: int = nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)
    if generation not in _LANE_BYTES_S or not width:
        raise NotHere(f"what a link of generation {generation} with {width} lanes carries is not known here")
    return _LANE_BYTES_S[generation] * width


class PcieMeter:
    """``want`` has all devices measured once more, ``latest`` tells what came of it; neither waits."""

    def __init__(self, nvml: Any, devices: Sequence[Questions]) -> None:
        """``devices``: questions that nobody else asks, since they are asked in the thread."""
        self._nvml = nvml
        self._devices = devices
        self._latest: list[tuple[float, Traffic] | None] = [None] * len(devices)
        self._wanted = threading.Event()
        self._asked_s: float | None = None
        self._thread: threading.Thread | None = None

    def want(self) -> None:
        """Measure again, unless it is being done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pcie", daemon=True)
            self._thread.start()
        if self._asked_s is None:
            self._asked_s = time.monotonic()
            self._wanted.set()

    def latest(self, index: int) -> Traffic:
        """What was measured last of a device."""
        now, asked = time.monotonic(), self._asked_s
        if asked is not None and now - asked > _PATIENCE_S:
            return Traffic(None, None, f"the driver has not answered for {now - asked:.0f} s")
        known = self._latest[index]
        if known is None or now - known[0] > _STALE_S:
            return Traffic(None, None, "it is being measured")
        return known[1]

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            for index, questions in enumerate(self._devices):
                self._latest[index] = (time.monotonic(), self._measured(questions))
            self._asked_s = None

    def _measured(self, questions: Questions) -> Traffic:
        questions.begin()
        received = questions.ask("pcie", lambda handle: self._nvml.nvmlDeviceGetPcieThroughput(handle, _RECEIVED))
        sent = questions.ask("pcie", lambda handle: self._nvml.nvmlDeviceGetPcieThroughput(handle, _SENT))
        why = questions.why("pcie")
        if received is None or sent is None:
            return Traffic(None, None, why or "the driver does not tell")
        return Traffic(received * _KB, sent * _KB)

"""Accelerators, as their drivers describe them."""

from __future__ import annotations

import time

from pagewise.app.figures import of_size
from pagewise.app.gauges.vram import reasons
from pagewise.app.visible import visible_line
from pagewise.doctor.findings import Finding
from pagewise.instruments.devices import DevicesInstrument
from pagewise.readings import Devices


def sample() -> Devices:
    """All devices now. Creates no context on any of them."""
    instrument = DevicesInstrument()
    found = instrument.sample(None)
    if found.devices:
        # Bandwidth and traffic take a second look.
        time.sleep(_SECOND_LOOK_S)
        found = instrument.sample(None)
    return found


def findings(found: Devices) -> list[Finding]:
    """One finding a device, or why there is none."""
    if not found.devices:
        return [Finding("GPU", "devices", "note", visible_line(found.why_none or "none found"), _NONE_FIX)]
    listed = []
    for device in found.devices:
        value = f"{visible_line(device.name)}, {of_size(device.used_bytes, device.total_bytes)} used ({device.source})"
        missing = "; ".join(f"{', '.join(metrics)}: {visible_line(why)}" for why, metrics in reasons(device).items())
        listed.append(Finding("GPU", f"GPU {device.index}", "ok", f"{value}{f'; n/a: {missing}' if missing else ''}"))
    return listed


_SECOND_LOOK_S = 0.25
_NONE_FIX = (
    "If there is a GPU: `nvidia-smi` or `rocm-smi` must list it first; in a container it must be passed through "
    "(docker: --gpus all). Without one everything runs on the CPU."
)

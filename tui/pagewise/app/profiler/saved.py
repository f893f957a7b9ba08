"""Stacks as files for other programs: folded text, and speedscope's JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pagewise.app.profiler.flame import named, parse_folded
from pagewise.readings import StackProfile

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def save_stacks(profile: StackProfile, folder: Path, now: time.struct_time) -> tuple[Path, Path]:
    """Write ``NAME.folded`` and ``NAME.speedscope.json`` into ``folder``. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{profile.program}-{profile.pid}-{time.strftime('%Y%m%d-%H%M%S', now)}"
    folded, scope = folder / f"{stem}.folded", folder / f"{stem}.speedscope.json"
    folded.write_text(profile.folded, encoding="utf-8")
    scope.write_text(json.dumps(speedscope(profile)), encoding="utf-8")
    return folded, scope


def speedscope(profile: StackProfile) -> dict[str, Any]:
    """One sampled profile a thread; weights in seconds. Order in time is not known: equal stacks are joined."""
    frames: dict[str, int] = {}
    threads: dict[str, tuple[list[list[int]], list[float]]] = {}
    for stack in parse_folded(profile.folded):
        samples, weights = threads.setdefault(stack.frames[0], ([], []))
        samples.append([frames.setdefault(label, len(frames)) for label in stack.frames[1:] or stack.frames])
        weights.append(stack.count / profile.rate_hz)
    return {
        "$schema": _SCHEMA,
        "exporter": "pagewise",
        "name": f"{profile.program} {profile.pid}",
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(label) for label in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": thread,
                "unit": "seconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
            for thread, (samples, weights) in threads.items()
        ],
    }


def _frame(label: str) -> dict[str, Any]:
    name, place = named(label)
    file, colon, number = place.rpartition(":")
    if colon and number.isdigit():
        return {"name": name, "file": file, "line": int(number)}
    return {"name": name, "file": place} if place else {"name": name}

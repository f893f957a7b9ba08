"""When the watchdog ends an engine."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pagewise.host.watchdog import Limits, Watched, complaint

LIMITS = Limits(stop=5.0, answer=60.0, hang=120.0)
ENGINE = cast("Any", None)


@pytest.mark.parametrize(
    ("watched", "active_at", "now", "words"),
    [
        (Watched(ENGINE, 0.0, None, None), 0.0, 119.0, None),
        (Watched(ENGINE, 0.0, None, None), 0.0, 121.0, "did nothing"),
        (Watched(ENGINE, 0.0, None, None), 100.0, 121.0, None),
        (Watched(ENGINE, 100.0, None, None), 0.0, 121.0, None),
        (Watched(ENGINE, 0.0, 0.0, None), 59.0, 59.0, None),
        (Watched(ENGINE, 0.0, 0.0, None), 61.0, 61.0, "begun to answer"),
        (Watched(ENGINE, 9.0, None, 5.0), 9.0, 9.9, None),
        (Watched(ENGINE, 10.0, None, 5.0), 10.0, 10.1, "asked to stop"),
    ],
)
def test_complaints(watched: Watched, active_at: float, now: float, words: str | None) -> None:
    why = complaint(watched, active_at, now, LIMITS)
    assert (why is None) if words is None else (why is not None and words in why)

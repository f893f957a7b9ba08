"""A pull in a process of its own: it can be ended at any moment, and what was fetched stays for the next one."""

from __future__ import annotations

import os
import sys
import time

from pagewise.models.hub.selection import HubError
from pagewise.models.telling import Failed, Step, Teller

_EVERY_S = 0.1


def main() -> None:
    """``python -m pagewise.models.hub REPOSITORY QUANT fetch|list``: tells how far it is, then what came of it."""
    repository, quant, what = sys.argv[1:]
    teller = Teller()
    # The library reads them when it is imported. Nobody asked for statistics to be sent.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from pagewise.models.hub.pull import pull

    told_at = 0.0
    told_phase = ""

    def told(phase: str, done: int, total: int, file: str) -> None:
        nonlocal told_at, told_phase
        now = time.monotonic()
        if phase != told_phase or now - told_at >= _EVERY_S:
            told_at, told_phase = now, phase
            teller.tell(Step(phase, done, total, file))

    try:
        teller.tell(pull(repository, quant, what == "list", told))
    except HubError as error:
        teller.tell(Failed(error.failure))


if __name__ == "__main__":
    main()

"""A look at the machine in a process of its own: it can be ended at any moment, and never holds up a token."""

from __future__ import annotations

import time

from pagewise.models.catalog.scan import scan
from pagewise.models.telling import Step, Teller

_EVERY_S = 0.1


def main() -> None:
    """Scan, telling how far it is, then what was found."""
    teller = Teller()
    told_at = 0.0

    def told(done: int, total: int, name: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _EVERY_S:
            told_at = time.monotonic()
            teller.tell(Step("reading headers", done, total, name))

    teller.tell(scan(told=told))


if __name__ == "__main__":
    main()

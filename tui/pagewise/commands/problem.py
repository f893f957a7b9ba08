"""How a command says that it could not do what was asked."""

from __future__ import annotations

import sys

from pagewise.app.visible import visible_line
from pagewise.messages import Failure


def block(failure: Failure) -> str:
    """What happened, why, and what to do next, as three lines that a terminal can show."""
    return "\n".join(
        (
            f"pagewise: {visible_line(failure.what)}",
            f"  why   {visible_line(failure.why)}",
            f"  next  {visible_line(failure.next)}",
        )
    )


def report(failure: Failure) -> None:
    """Write the block to standard error."""
    print(block(failure), file=sys.stderr)

"""One finding of the doctor."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["ok", "note", "warn", "fail"]


class Finding(Struct, frozen=True):
    """``value`` was found. ``note``: good to know; ``warn``: it costs something; ``fail``: a part cannot work."""

    area: str
    name: str
    state: State
    value: str
    fix: str = ""
    """What to do about it; empty where there is nothing to do."""

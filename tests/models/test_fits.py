from __future__ import annotations

import pytest

from pagewise.jobs.catalog import Fit, Room
from pagewise.models.fits import RESERVE, fit

GIB = 1024**3


@pytest.mark.parametrize(
    ("need", "ram", "vram", "expected"),
    [
        (4 * GIB, 16 * GIB, 8 * GIB, "vram"),
        (8 * GIB, 16 * GIB, 8 * GIB, "ram"),
        (20 * GIB, 16 * GIB, 8 * GIB, "both"),
        (24 * GIB, 16 * GIB, 8 * GIB, "streams"),
        (4 * GIB, 16 * GIB, None, "ram"),
        (16 * GIB, 16 * GIB, None, "streams"),
        (8 * GIB - RESERVE, 16 * GIB, 8 * GIB, "vram"),
        (1, 0, 0, "streams"),
    ],
)
def test_where_a_need_has_room(need: int, ram: int, vram: int | None, expected: Fit) -> None:
    assert fit(need, Room(64 * GIB, ram, 8 * GIB if vram is not None else None, vram)) == expected

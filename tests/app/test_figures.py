from __future__ import annotations

import pytest

from pagewise.app import figures

GIB = 1024**3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "n/a"),
        (0, "0 B"),
        (900, "900 B"),
        (4096, "4 KiB"),
        (310 * 1024**2, "310 MiB"),
        (int(4.36 * GIB), "4.4 GiB"),
    ],
)
def test_size(value: int | None, shown: str) -> None:
    assert figures.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "n/a"),
        (0.0, "0 MB/s"),
        (12_000.0, "12 kB/s"),
        (2.04e6, "2.0 MB/s"),
        (38e6, "38 MB/s"),
        (1.1e9, "1.1 GB/s"),
    ],
)
def test_rate(value: float | None, shown: str) -> None:
    assert figures.rate(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "n/a"),
        (0.12, "0.12 ms"),
        (41.0, "41.0 ms"),
        (312.0, "312 ms"),
        (9_120.0, "9120 ms"),
        (12_340.0, "12.3 s"),
    ],
)
def test_duration(value: float | None, shown: str) -> None:
    assert figures.duration(value) == shown


def test_both_sizes_are_in_the_unit_of_the_whole() -> None:
    assert figures.of_size(512 * 1024**2, 8 * GIB) == "0.5 / 8.0 GiB"
    assert figures.of_size(None, 8 * GIB) == "n/a / 8.0 GiB"


def test_a_share_that_cannot_be_said_is_not_zero() -> None:
    assert figures.share(None, 10) is None
    assert figures.share(1, 0) is None
    assert figures.percent(None) == "n/a"
    assert figures.percent(0.4) == "0.4 %"


def test_thousands_are_parted() -> None:
    assert figures.count(8192) == "8 192"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(5, "5 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (100_000, "yesterday"), (400_000, "5 days ago")],
)
def test_ago(seconds: float, shown: str) -> None:
    assert figures.ago(seconds) == shown

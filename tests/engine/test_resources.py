"""Cores and memory that are there to be used."""

from __future__ import annotations

import os

import psutil
import pytest
from tests.engine.harness import profile

from pagewise.engine.llamacpp.context import threads_of
from pagewise.engine.llamacpp.cores import physical_cores
from pagewise.engine.memory import available_bytes

MIB = 1024 * 1024


def test_cores_are_some_of_the_processors() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_memory_is_some_of_the_memory() -> None:
    assert 0 < available_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("threads", "threads_batch", "weights", "expected"),
    [
        (3, 0, 10 * MIB, (3, 3)),
        (3, 5, 10 * MIB, (3, 5)),
        (0, 0, 10 * MIB, (1, 1)),
        (0, 4, 10 * MIB, (1, 4)),
        (0, 0, 1 << 40, (physical_cores(), physical_cores())),
    ],
)
def test_threads(threads: int, threads_batch: int, weights: int, expected: tuple[int, int]) -> None:
    assert threads_of(profile("", threads=threads, threads_batch=threads_batch), weights) == expected

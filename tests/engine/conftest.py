from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.engine.harness import EngineProcess


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with EngineProcess() as process:
        yield process


@pytest.fixture(scope="module")
def shared() -> Iterator[EngineProcess]:
    """One engine for a module: tests load what they need, and leave nothing that would disturb the next."""
    with EngineProcess() as process:
        yield process

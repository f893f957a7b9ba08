"""A failure on its way to the person."""

from __future__ import annotations

from pagewise.messages import Failure
from pagewise.models.gguf import GgufError


class Failed(Exception):
    """What was asked could not be done; ``failure`` says it to a person."""

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(f"{what}: {why}")
        self.failure = Failure(what, why, next)


class Cancelled(Exception):
    """What was asked was stopped by the person."""


def from_gguf(error: GgufError) -> Failed:
    """The same words, as a failure of the engine."""
    return Failed(error.what, error.why, error.next)

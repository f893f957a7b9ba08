"""The handle on a host, as the session uses it: what client.py has, and what a script can stand in for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from pagewise.messages import Command, Event


class Client(Protocol):
    """A connection to one host."""

    async def start(self) -> None:
        """Start the host. Raises ClientError."""

    def send(self, command: Command) -> None:
        """Hand a command over; it never waits."""

    def events(self) -> AsyncIterator[Event]:
        """Everything the host says, until it ends."""

    async def close(self) -> None:
        """End the host."""

"""The host's way to the app: frames in order, never blocking the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from pagewise.messages import HEADER, Event, encode

_HIGH_WATER = 1 << 20


class Outlet(asyncio.BaseProtocol):
    """Writes events to a pipe. ``on_closed`` is called when nobody reads any more."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._transport: asyncio.WriteTransport | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    @classmethod
    async def open(cls, descriptor: int, on_closed: Callable[[], None]) -> Outlet:
        """An outlet to a pipe or socket. Raises ValueError or OSError for anything else."""
        loop = asyncio.get_running_loop()
        _, outlet = await loop.connect_write_pipe(lambda: cls(on_closed), os.fdopen(descriptor, "wb", buffering=0))
        return outlet

    def send(self, event: Event) -> None:
        """Queue one event."""
        self._write(encode(event))

    def forward(self, channel: int, payload: bytes) -> None:
        """Queue a frame that an engine made."""
        self._write(HEADER.pack(len(payload), channel) + payload)

    @property
    def waiting(self) -> bool:
        """Whether something that was queued has not gone out yet: a reading would only be late."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    @property
    def flowing(self) -> bool:
        """Whether the app takes what it is sent; engines are not read while it does not."""
        return self._flowing.is_set()

    async def drain(self) -> None:
        """Wait while more is queued than the app can take."""
        await self._flowing.wait()

    async def close(self) -> None:
        """Let what is queued go out, for a moment at most."""
        for _ in range(50):
            if not self.waiting:
                break
            await asyncio.sleep(0.02)
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._flowing.set()
        self._on_closed()

    def pause_writing(self) -> None:
        self._flowing.clear()

    def resume_writing(self) -> None:
        self._flowing.set()

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

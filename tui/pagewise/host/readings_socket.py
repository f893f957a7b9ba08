"""A socket on which this host tells the engine's own readings, for `pagewise monitor` in another terminal.

It is in a folder that this user alone may enter, and answers this user and root alone. Nothing is read from it: whoever
connects gets one EngineReadings in msgpack, or nothing where no model is in force, and the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from pagewise.readings import EngineReadings
from pagewise.runtime_folder import make_runtime_folder

_NAME = "host-{pid}-{mark}.sock"
_ANY = "host-*.sock"
_PEER = struct.Struct("3i")
"""``struct ucred``: process, user and group of who is at the other end."""
_ROOT = 0
_encoder = msgspec.msgpack.Encoder()


class ReadingsSocket:
    """Closed until ``open``. What keeps it from being opened is written to the host's log: all else goes on."""

    def __init__(self, read: Callable[[], EngineReadings | None]) -> None:
        self._read = read
        self._path: Path | None = None
        self._opening: asyncio.Task[None] | None = None
        self._server: asyncio.AbstractServer | None = None

    def open(self) -> None:
        """Listen from now on; more than once is as once. Linux alone names who is at the other end like this."""
        if self._opening is None and sys.platform.startswith("linux"):
            self._opening = asyncio.create_task(self._open())

    async def close(self) -> None:
        """Listen no more."""
        if self._opening is not None:
            await self._opening
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _open(self) -> None:
        try:
            folder = make_runtime_folder()
            _sweep(folder)
            # Containers may share the folder, and each has its own process 7.
            path = folder / _NAME.format(pid=os.getpid(), mark=secrets.token_hex(4))
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # Before it has a name: there is no moment in which others could enter.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(str(path))
            self._path = path
            self._server = await asyncio.start_unix_server(self._tell, sock=listener)
        except OSError as error:
            sys.stderr.write(f"no socket for the monitor: {error}\n")

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Who does not take what it is told has it dropped with the connection; nobody is waited for.
        with contextlib.closing(writer):
            peer: socket.socket = writer.get_extra_info("socket")
            _, user, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            readings = self._read() if user in (os.getuid(), _ROOT) else None
            if readings is not None:
                writer.write(_encoder.encode(readings))


def _sweep(folder: Path) -> None:
    """Sockets of hosts that were killed."""
    for path in folder.glob(_ANY):
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(BlockingIOError):
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink(missing_ok=True)

"""What an engine of pagewise knows of itself: asked of its host, over the socket on which that host tells it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from pagewise.monitor.processes import Found, ProcessId, socket_inodes
from pagewise.readings import EngineReadings, Missing

Inside = Callable[[], EngineReadings | None]
"""What the host that this monitor is a part of knows of its engine."""

_WITHIN_S = 0.2
_AGAIN_S = 5.0
"""A host that gave no answer is left alone for so long."""
_MOST_BYTES = 4 << 20
_PEER = struct.Struct("3i")
_LISTENS = "00010000"
_SOCKET = "host-"
_decoder = msgspec.msgpack.Decoder(EngineReadings)

_HOW = "open the model in pagewise (`pagewise --model FILE`), and press F5 there or run `pagewise monitor` beside it"
OF_OTHERS = Missing("engine", f"Only an engine of pagewise tells the time of each layer and of each token: {_HOW}.")
_NO_RIGHT = "Its host tells what only the engine knows to its own user and to root alone: `sudo pagewise monitor`."
_NO_SOCKET = (
    "Its host offers no socket (it has just begun, is an older pagewise, or has no folder for one; its log says so); "
    "F5 in that chat shows what only the engine knows."
)
_NOT_IN_FORCE = "It is held in memory or works beside the conversation; only the engine in force is told of."
_NONE = "Its host has no model in force."


class _Refused(Exception):
    """There is no answer; the message says why."""


class _Kept(NamedTuple):
    why: str
    again_s: float


class OwnEngines:
    """``read`` gives the readings of one engine, or why there are none."""

    def __init__(self, inside: Inside | None = None) -> None:
        """``inside``: of the host that this process is, if it is one."""
        self._inside = inside
        self._paths: dict[ProcessId, str] = {}
        self._refused: dict[ProcessId, _Kept] = {}

    def read(self, found: Found) -> EngineReadings | Missing:
        """Of the engine ``found``, whose parent is its host."""
        if self._inside is not None:
            readings = self._inside()
            if readings is not None and readings.pid == found.id.pid:
                return readings
        now = time.monotonic()
        refused = self._refused.get(found.id)
        if refused is not None and now < refused.again_s:
            return Missing("engine", refused.why)
        try:
            readings = self._asked(found)
        except _Refused as error:
            self._paths.pop(found.id, None)
            self._refused[found.id] = _Kept(str(error), now + _AGAIN_S)
            return Missing("engine", str(error))
        self._refused.pop(found.id, None)
        return readings

    def forget(self, id: ProcessId) -> None:
        """It has ended."""
        self._paths.pop(id, None)
        self._refused.pop(id, None)

    def _asked(self, found: Found) -> EngineReadings:
        path = self._paths.get(found.id)
        if path is None:
            path = self._paths[found.id] = _path(found)
        data = _told(path, found.parent)
        if not data:
            raise _Refused(_NONE)
        try:
            readings = _decoder.decode(data)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise _Refused("Its host is of another version of pagewise, which tells it in another way.") from error
        # Inside a container it has another number than here; an engine in force is its host's first in both.
        if readings.pid != found.id.pid and _pid_within(found.id.pid) != readings.pid:
            raise _Refused(_NOT_IN_FORCE)
        return readings


def _path(found: Found) -> str:
    """Where the host of an engine listens, by the sockets it has open: no name is guessed."""
    inodes = set(socket_inodes(found.parent))
    if not inodes:
        raise _Refused(_NO_RIGHT if found.missing else _NO_SOCKET)
    try:
        table = Path(f"/proc/{found.parent}/net/unix").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _Refused(_NO_SOCKET) from error
    for line in table.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[3] == _LISTENS and int(fields[6]) in inodes:
            path = fields[7]
            if path.rpartition("/")[2].startswith(_SOCKET):
                return path
    raise _Refused(_NO_SOCKET)


def _told(path: str, host: int) -> bytes:
    """Everything that process ``host`` says on its socket; its folder may be another one here than it is there."""
    for place in (path, f"/proc/{host}/root{path}"):
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_WITHIN_S)
                connection.connect(place)
                peer, _, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
                if peer == host:
                    return _all_of(connection)
        except PermissionError as error:
            raise _Refused(_NO_RIGHT) from error
        except (FileNotFoundError, ConnectionRefusedError):
            continue
        except OSError as error:
            raise _Refused(f"Its host does not answer: {error}.") from error
    raise _Refused(_NO_SOCKET)


def _all_of(connection: socket.socket) -> bytes:
    until = time.monotonic() + _WITHIN_S
    received = bytearray()
    while piece := connection.recv(1 << 16):
        received += piece
        if len(received) > _MOST_BYTES or time.monotonic() > until:
            raise _Refused("Its host does not come to an end.")
    return bytes(received)


def _pid_within(pid: int) -> int | None:
    """The number that a process has in its own container."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "")
    return int(line.split()[-1]) if len(line.split()) > 1 else None

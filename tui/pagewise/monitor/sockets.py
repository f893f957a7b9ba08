"""Which TCP ports a process listens on, from ``/proc/net/tcp`` and ``tcp6``."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_LISTEN = "0A"
_TABLES = ("tcp", "tcp6")


class Listener(NamedTuple):
    """A listening socket: ``address`` is one that can be connected to from this machine."""

    address: str
    port: int
    inode: int
    uid: int

    @property
    def url(self) -> str:
        """The root of an HTTP server there."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


def listeners(pid: int | None = None) -> tuple[Listener, ...]:
    """All listening sockets of the network namespace of ``pid``, or of our own. Raises OSError."""
    folder = Path("/proc", "self" if pid is None else str(pid), "net")
    found: list[Listener] = []
    for table in _TABLES:
        path = folder / table
        if table == "tcp" or path.exists():
            found += parse_listeners(path.read_text(encoding="ascii", errors="replace"))
    return tuple(found)


def parse_listeners(text: str) -> tuple[Listener, ...]:
    """The listening sockets of one table; a line of another shape is passed over, as kernels add columns."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, _, port = fields[1].rpartition(":")
        try:
            found.append(Listener(_connectable(address), int(port, 16), int(fields[9]), int(fields[7])))
        except ValueError:
            continue
    return tuple(found)


def of_process(sockets: Iterable[int], table: Iterable[Listener]) -> tuple[Listener, ...]:
    """The listeners whose inode is among a process's sockets, those on loopback first."""
    own = frozenset(sockets)
    found = (entry for entry in table if entry.inode in own)
    return tuple(sorted(found, key=lambda entry: (not ipaddress.ip_address(entry.address).is_loopback, *entry)))


def _connectable(text: str) -> str:
    """The kernel writes an address as hexadecimal words in the machine's byte order; "any" is reached over loopback."""
    if len(text) not in (8, 32):
        raise ValueError("not an address")
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    address = ipaddress.ip_address(b"".join(words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return str(address)

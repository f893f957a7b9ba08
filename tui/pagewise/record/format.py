"""The bytes of a record.

A record is the magic, a fixed head (version, length and CRC-32 of the header), the header in msgpack, and blocks. Each
block is its kind, its length, the CRC-32 of its bytes, and part of a deflate stream that ends on a byte boundary, so
that a record can be read up to the last whole block wherever it was cut. A ``KEY`` block begins a new stream: reading
can begin there. An ``END`` block is the last one of a record that was closed in good order.

Inflated, blocks hold entries: milliseconds since the start of the record, a kind, a length, and a message in msgpack.
"""

from __future__ import annotations

import struct
import zlib
from datetime import datetime, timezone

from msgspec import Struct

from pagewise.messages import MAX_FRAME, PROTOCOL, Failure

MAGIC = b"\x89PWREC\r\n"
"""Not text, and damaged where a transfer turned line ends: then it is not taken for a record."""
VERSION = 1
HEAD = struct.Struct(">HII")
BLOCK = struct.Struct(">BII")
ENTRY = struct.Struct(">IBI")

MORE, KEY, END = 0, 1, 2
"""Kinds of blocks."""
EVENT, COMMAND = 0, 1
"""Kinds of entries."""

MAX_HEADER = 1 << 20
BLOCK_BYTES = 1 << 20
"""Entries are gathered up to so many bytes at most, unless one alone is larger."""
SEGMENT_BYTES = 8 << 20
"""From so many inflated bytes on a new deflate stream begins."""
MAX_SEGMENT = SEGMENT_BYTES + BLOCK_BYTES + MAX_FRAME + ENTRY.size
MAX_BLOCK = MAX_SEGMENT + (1 << 20)
MAX_MS = (1 << 32) - 1


class Header(Struct, frozen=True):
    """Where and when a record was made."""

    pagewise: str
    protocol: int
    command: str
    """``chat``, ``ask`` or ``monitor``."""
    started_s: float
    """Seconds since 1970, by the clock of the machine that recorded."""

    @property
    def begun(self) -> str:
        """When it began, for a person. A damaged header may name any time."""
        try:
            return datetime.fromtimestamp(self.started_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        except (OverflowError, OSError, ValueError):
            return "at a time that is not known"


class RecordError(Exception):
    """A record that cannot be written or read; ``failure`` says why to a person."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what} {failure.why}")
        self.failure = failure


def newer(header: Header | None, version: int) -> Failure | None:
    """Why a record of this version, or of this header's protocol, cannot be read here; None if it can."""
    by = f" by pagewise {header.pagewise}" if header is not None else ""
    if version > VERSION:
        why = f"It was written{by} in format {version}; this pagewise reads up to format {VERSION}."
    elif header is not None and header.protocol > PROTOCOL:
        why = f"It was written{by} with messages of protocol {header.protocol}; this one knows up to {PROTOCOL}."
    else:
        return None
    return Failure("This record is newer than this pagewise", why, "Install a newer pagewise to read it.")


def packed_header(header: bytes) -> bytes:
    """Magic, head and header, as they stand at the start of a record."""
    return MAGIC + HEAD.pack(VERSION, len(header), zlib.crc32(header)) + header


def packed_block(kind: int, data: bytes) -> bytes:
    """One block, ready to be written."""
    return BLOCK.pack(kind, len(data), zlib.crc32(data)) + data

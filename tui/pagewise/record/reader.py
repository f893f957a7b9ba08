"""Reads a record: whole ones, and cut ones up to the cut."""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

import msgspec
from msgspec import Struct

from pagewise.messages import Command, Event, Failure, FrameError, decode_command, decode_event
from pagewise.record.format import (
    BLOCK,
    END,
    ENTRY,
    EVENT,
    HEAD,
    KEY,
    MAGIC,
    MAX_BLOCK,
    MAX_HEADER,
    MAX_SEGMENT,
    MORE,
    VERSION,
    Header,
    RecordError,
    newer,
)

Ending = Literal["whole", "open", "cut", "damaged"]
"""``open``: without its end mark, but up to a whole block; ``cut``: within a block; ``damaged``: bytes were changed."""
_ENDINGS: dict[Ending, str] = {
    "whole": "",
    "open": "The record has no end mark: who wrote it was killed, or still runs. It is read as far as it goes.",
    "cut": "The record is cut in the middle. It is read up to the cut.",
    "damaged": "The record is damaged from here on. It is read up to the damage.",
}


class _Tagged(Struct):
    type: str


class _Segment(Struct):
    """Blocks that are inflated together: where the first begins in the file, and how many they are."""

    start: int
    blocks: int


_tags = msgspec.msgpack.Decoder(_Tagged)


class Record:
    """The entries of one record, in order. Only one segment of the file is in memory at a time, and an index of all."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and go through it once. Raises RecordError where it is no record, or a newer one."""
        self.path = path
        self.ending: Ending = "open"
        self.unreadable = 0
        """Entries that are none this program knows."""
        self._ms = array("Q")
        self._segment_of = array("Q")
        self._offsets = array("Q")
        self._tags: dict[str, int] = {}
        self._tag_of = array("H")
        self._segments: list[_Segment] = []
        self._inflated: tuple[int, bytes] = (-1, b"")
        try:
            self._file = path.open("rb")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise RecordError(
                Failure("The record cannot be read", f"{path}: {why}.", "Give the path of a file that --record wrote.")
            ) from error
        try:
            self.header = _header(self._file, path)
            self._index()
        except OSError as error:
            self.close()
            raise RecordError(
                Failure("The record cannot be read", f"{path}: {error.strerror}.", "Copy the file and try again.")
            ) from error
        except RecordError:
            self.close()
            raise

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._ms)

    def ms(self, index: int) -> int:
        """When entry ``index`` arrived, in ms since the start of the record."""
        return self._ms[index]

    @property
    def length_ms(self) -> int:
        """When the last entry arrived; 0 of a record without any."""
        return self._ms[-1] if self._ms else 0

    def is_kind(self, index: int, kind: type[Event] | type[Command]) -> bool:
        """Whether entry ``index`` is of this type, without decoding it."""
        return self._tags.get(kind.__name__) == self._tag_of[index]

    def has(self, kind: type[Event] | type[Command]) -> bool:
        """Whether any entry is of this type."""
        return kind.__name__ in self._tags

    @property
    def remark(self) -> str:
        """What is to be said of how the record ends; empty if it is whole."""
        return _ENDINGS[self.ending]

    def message(self, index: int) -> Event | Command | None:
        """Entry ``index``; None if it is no message that this program knows. Raises RecordError if the file changed."""
        data = self._segment(self._segment_of[index])
        offset = self._offsets[index]
        _, kind, length = ENTRY.unpack_from(data, offset)
        payload = data[offset + ENTRY.size : offset + ENTRY.size + length]
        try:
            return decode_event(payload) if kind == EVENT else decode_command(payload)
        except FrameError:
            return None

    def __iter__(self) -> Iterator[tuple[int, Event | Command]]:
        """Each entry that can be decoded, with its time in ms."""
        for index in range(len(self)):
            message = self.message(index)
            if message is None:
                self.unreadable += 1
            else:
                yield self._ms[index], message

    # ---- blocks -----------------------------------------------------------------------------------------------------

    def _index(self) -> None:
        stream = zlib.decompressobj()
        offset = 0
        while True:
            start = self._file.tell()
            found = self._block()
            if found is None:
                return
            kind, data = found
            if kind == END:
                self.ending = "whole"
                return
            if kind == KEY:
                self._segments.append(_Segment(start, 0))
                stream = zlib.decompressobj()
                offset = 0
            elif not self._segments:
                self.ending = "damaged"
                return
            try:
                raw = stream.decompress(data, MAX_SEGMENT - offset + 1)
            except zlib.error:
                self.ending = "damaged"
                return
            if offset + len(raw) > MAX_SEGMENT or not self._entries(raw, offset):
                self.ending = "damaged"
                return
            offset += len(raw)
            self._segments[-1].blocks += 1

    def _block(self) -> tuple[int, bytes] | None:
        """The next block; None at the end, and ``ending`` says at which."""
        head = self._file.read(BLOCK.size)
        if len(head) < BLOCK.size:
            self.ending = "cut" if head else "open"
            return None
        kind, length, crc = BLOCK.unpack(head)
        if kind not in (MORE, KEY, END) or length > MAX_BLOCK:
            self.ending = "damaged"
            return None
        data = self._file.read(length)
        if len(data) < length:
            self.ending = "cut"
            return None
        if zlib.crc32(data) != crc:
            self.ending = "damaged"
            return None
        return kind, data

    def _entries(self, raw: bytes, base: int) -> bool:
        """Note where each entry of a block is; False if they are none."""
        at = 0
        while at < len(raw):
            if at + ENTRY.size > len(raw):
                return False
            ms, _, length = ENTRY.unpack_from(raw, at)
            end = at + ENTRY.size + length
            if end > len(raw):
                return False
            try:
                tag = _tags.decode(raw[at + ENTRY.size : end]).type
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return False
            self._tag_of.append(self._tags.setdefault(tag, min(len(self._tags), 65_535)))
            # A clock that does not go backwards is what playing and seeking stand on.
            self._ms.append(max(ms, self.length_ms))
            self._segment_of.append(len(self._segments) - 1)
            self._offsets.append(base + at)
            at = end
        return True

    def _segment(self, number: int) -> bytes:
        if self._inflated[0] != number:
            segment = self._segments[number]
            stream = zlib.decompressobj()
            parts = []
            self._file.seek(segment.start)
            try:
                for _ in range(segment.blocks):
                    _, length, _ = BLOCK.unpack(self._file.read(BLOCK.size))
                    parts.append(stream.decompress(self._file.read(length), MAX_SEGMENT))
            except (OSError, struct.error, zlib.error) as error:
                raise RecordError(
                    Failure(
                        "The record cannot be read any more",
                        f"{self.path} has changed since it was opened ({error}).",
                        "Open it again.",
                    )
                ) from error
            self._inflated = (number, b"".join(parts))
        return self._inflated[1]


def _header(file: BinaryIO, path: Path) -> Header:
    start = file.read(len(MAGIC) + HEAD.size)
    if not start.startswith(MAGIC):
        raise RecordError(
            Failure(
                "This is no record",
                f"{path} does not begin as a record of pagewise does.",
                "Give a file that --record wrote; one that was sent as text is damaged, send it as a binary file.",
            )
        )
    if len(start) < len(MAGIC) + HEAD.size:
        raise RecordError(_without_header(path))
    version, length, crc = HEAD.unpack_from(start, len(MAGIC))
    data = file.read(min(length, MAX_HEADER))
    header = _decoded(data) if zlib.crc32(data) == crc else None
    failure = newer(header, version)
    if failure is not None:
        raise RecordError(failure)
    if header is None or version < VERSION:
        raise RecordError(_without_header(path))
    return header


def _decoded(data: bytes) -> Header | None:
    try:
        return msgspec.msgpack.decode(data, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _without_header(path: Path) -> Failure:
    return Failure(
        "The record cannot be read", f"{path} is cut or damaged within its header.", "There is nothing to replay."
    )

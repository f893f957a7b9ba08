"""A copy of the KV cache in a memory file, on its way to another context, another load, or another engine."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pagewise.memory_file import VARIABLE, memory_file

_HEAD = struct.Struct("<4sQ")
_MAGIC = b"pwkv"
_PAGE = mmap.PAGESIZE
Identity = tuple[tuple[str, int, int], ...]


class Made(msgspec.Struct, frozen=True):
    """What a KV cache was computed with: only the very same weights and adapters can go on from it."""

    weights: Identity
    adapters: tuple[tuple[str, int, int, float], ...]


class Stored(msgspec.Struct, frozen=True):
    """What stands in the file: the tokens that the copy is of, and where its parts are, in bytes of the file."""

    made: Made
    ids: tuple[int, ...]
    state: tuple[int, int]
    checkpoints: tuple[tuple[int, int, int], ...] = ()
    """For each checkpoint the number of tokens it stands behind, and its place."""


class CarriedCache:
    """The file, and what is in it. It takes no memory while it is empty."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def put(
        self,
        made: Made,
        ids: Sequence[int],
        size: int,
        checkpoints: Sequence[tuple[int, Any]],
        fill: Callable[[ctypes.Array[ctypes.c_uint8]], bool],
    ) -> bool:
        """Write a state of ``size`` bytes, which ``fill`` puts into its place, and the checkpoints beside it.

        False where ``fill`` says so. Raises OSError where memory has no room. The file is empty then.
        """
        at = _PAGE
        places: list[tuple[int, int, int]] = []
        tail = at + size
        for length, checkpoint in checkpoints:
            places.append((length, tail, len(checkpoint)))
            tail += len(checkpoint)
        head = msgspec.msgpack.encode(Stored(made, tuple(ids), (at, size), tuple(places)))
        self.clear()
        try:
            # Reserved, because a write to a page that memory cannot give would end the process.
            _reserve(self._descriptor, tail + len(head))
        except OSError:
            self.clear()
            raise
        mapped = mmap.mmap(self._descriptor, tail + len(head))
        mapped[tail:] = head
        for (_, start, length), (_, checkpoint) in zip(places, checkpoints, strict=True):
            mapped[start : start + length] = bytes(checkpoint)
        if not fill((ctypes.c_uint8 * size).from_buffer(mapped, at)):
            self.clear()
            return False
        # Last: an engine that is ended in the middle of this must not leave half a state that looks whole.
        mapped[: _HEAD.size] = _HEAD.pack(_MAGIC, tail)
        return True

    def stored(self) -> Stored | None:
        """What is in the file; None where it is empty, or not what this version writes."""
        size = os.fstat(self._descriptor).st_size
        if size < _PAGE:
            return None
        with mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ) as mapped:
            magic, tail = _HEAD.unpack_from(mapped)
            if magic != _MAGIC or tail > size:
                return None
            try:
                return msgspec.msgpack.decode(mapped[tail:], type=Stored)
            except msgspec.DecodeError:
                return None

    def part(self, start: int, length: int) -> ctypes.Array[ctypes.c_uint8]:
        """The bytes at a place that ``stored`` named, without copying them."""
        mapped = mmap.mmap(self._descriptor, start + length)
        return (ctypes.c_uint8 * length).from_buffer(mapped, start)

    def clear(self) -> None:
        """Give its memory back."""
        os.ftruncate(self._descriptor, 0)


def inherited_file() -> int:
    """The descriptor of the host's memory file, or of one of our own where there is no host to give one."""
    given = os.environ.pop(VARIABLE, "")
    if given.isdigit():
        try:
            os.set_inheritable(int(given), False)
        except OSError:
            return memory_file()
        return int(given)
    return memory_file()


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)

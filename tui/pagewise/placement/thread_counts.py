"""What the kernel has counted of this process, and of single threads of it: bytes read from disk, and major faults."""

from __future__ import annotations

import os
import resource
from typing import NamedTuple

_IO = "/proc/self/io"
_OF_THREAD = "/proc/self/task/{}/{}"
_READ = b"\nread_bytes: "
_MAJFLT = 9
"""Its place in /proc/PID/stat, counted from the field behind the program's name."""
_ROOM = 4096


class Counted(NamedTuple):
    """Since the process or the thread began."""

    read_bytes: int
    """Read from disk: by reads, by read-ahead, and by touching what was mapped and not there."""
    stalls: int
    """Major faults."""

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.read_bytes - other.read_bytes, self.stalls - other.stalls)


class ProcessCounts:
    """Of this whole process, threads that have ended among them. ``close`` it when done."""

    def __init__(self) -> None:
        """Raises OSError where the kernel does not count or does not tell."""
        self._io = _opened(_IO)

    def read(self) -> Counted:
        """Now."""
        return Counted(_read_bytes(self._io), resource.getrusage(resource.RUSAGE_SELF).ru_majflt)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._io)


class ThreadCounts:
    """Of one thread of this process, read from any other while it runs. ``close`` it when done."""

    def __init__(self, thread: int) -> None:
        """``thread``: its native id. Raises OSError where the kernel does not count or does not tell."""
        self._io = _opened(_OF_THREAD.format(thread, "io"))
        try:
            self._stat = os.open(_OF_THREAD.format(thread, "stat"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._io)
            raise

    def read_bytes(self) -> int:
        """Read from disk so far. Raises OSError when the thread has ended."""
        return _read_bytes(self._io)

    def read(self) -> Counted:
        """Now. Raises OSError when the thread has ended."""
        fields = os.pread(self._stat, _ROOM, 0).rpartition(b")")[2].split()
        return Counted(_read_bytes(self._io), int(fields[_MAJFLT]))

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._io)
        os.close(self._stat)


def _opened(path: str) -> int:
    """A descriptor that can be read again and again, each time with what is true then."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _read_bytes(descriptor)
    except (OSError, IndexError):
        os.close(descriptor)
        raise OSError(0, f"{path} does not tell what was read") from None
    return descriptor


def _read_bytes(descriptor: int) -> int:
    return int(os.pread(descriptor, _ROOM, 0).split(_READ, 1)[1].split(b"\n", 1)[0])

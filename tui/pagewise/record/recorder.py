"""Writes a record: takes messages without ever waiting, and has them on the way to the disk within a second."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec.structs import replace

from pagewise import __version__
from pagewise.messages import (
    PROTOCOL,
    Command,
    Event,
    Failure,
    Generate,
    Load,
    Monitor,
    Stop,
)
from pagewise.record.format import (
    BLOCK_BYTES,
    COMMAND,
    END,
    ENTRY,
    EVENT,
    KEY,
    MAX_MS,
    MORE,
    SEGMENT_BYTES,
    Header,
    RecordError,
    packed_block,
    packed_header,
)

FLUSH_S = 1.0
_KEPT = (Load, Generate, Monitor, Stop)
"""Commands that a replay needs: what was asked. The others say nothing that their events do not."""
_COMMANDS = (*_KEPT, *(kind for kind in Command.__args__ if kind not in _KEPT))
_BLOCKS_A_SEGMENT = 64


class Recorder:
    """One record being written. What was taken more than a second ago survives SIGKILL.

    Compressing and writing happen in a thread of their own, so that neither a slow disk nor a full one holds up who
    records. Of a Generate only its question is kept: the replies before it are in the record already.
    """

    def __init__(self, path: Path, command: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a record at ``path``, which must not be there yet; ``command`` is what makes it. Raises RecordError."""
        self.path = path
        self._file = _created(path)
        self._encoder = msgspec.msgpack.Encoder()
        self._clock = clock
        self._start = clock()
        self._waiting = bytearray()
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._failure: Failure | None = None
        self._told = False
        self._stream = zlib.compressobj()
        self._blocks = 0
        self._segment_bytes = 0
        header = Header(__version__, PROTOCOL, command, time.time())
        try:
            self._write(packed_header(self._encoder.encode(header)))
        except OSError as error:
            os.close(self._file)
            raise RecordError(_not_written(path, error)) from error
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def take(self, message: Command | Event) -> Failure | None:
        """Keep one message. Once the record cannot be written any more, the next call answers why, once."""
        if self._failure is not None:
            told, self._told = self._told, True
            return None if told else self._failure
        kind = EVENT
        if isinstance(message, _COMMANDS):
            if not isinstance(message, _KEPT):
                return None
            kind = COMMAND
            if isinstance(message, Generate):
                message = replace(message, messages=message.messages[-1:])
        payload = self._encoder.encode(message)
        ms = min(int((self._clock() - self._start) * 1000), MAX_MS)
        with self._lock:
            self._waiting += ENTRY.pack(ms, kind, len(payload)) + payload
            full = len(self._waiting) >= BLOCK_BYTES
        if full:
            self._awake.set()
        return None

    def close(self) -> None:
        """Write what waits, and the mark of a good end. Raises RecordError where the record is not whole."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._awake.set()
        self._thread.join()
        os.close(self._file)
        if self._failure is not None and not self._told:
            self._told = True
            raise RecordError(self._failure)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._awake.wait(FLUSH_S)
                self._awake.clear()
                self._flush()
            self._flush()
            self._write(packed_block(END, b""))
        except OSError as error:
            with self._lock:
                self._waiting.clear()
            self._failure = _not_written(self.path, error)

    def _flush(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            data, self._waiting = bytes(self._waiting), bytearray()
        kind = MORE
        if self._blocks % _BLOCKS_A_SEGMENT == 0 or self._segment_bytes >= SEGMENT_BYTES:
            kind = KEY
            self._blocks = 0
            self._segment_bytes = 0
            self._stream = zlib.compressobj()
        self._blocks += 1
        self._segment_bytes += len(data)
        # A full flush would forget what was said before: readings resemble one another.
        self._write(packed_block(kind, self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


def _created(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    except FileExistsError as error:
        raise RecordError(
            Failure(
                "The record is not begun",
                f"{path} is there already, and a record never replaces a file.",
                "Give --record another name, or remove that file.",
            )
        ) from error
    except (OSError, ValueError) as error:
        raise RecordError(_not_written(path, error)) from error


def _not_written(path: Path, error: OSError | ValueError) -> Failure:
    why = error.strerror if isinstance(error, OSError) else error
    return Failure(
        "The record cannot be written",
        f"{path}: {why}. What it holds already stays readable.",
        "Give --record a name in a folder that can be written to and has room, and start again.",
    )

"""The engine's end of the pipe: a thread that reads commands, and a writer of events."""

from __future__ import annotations

import ctypes
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from pagewise.jobs.base import JobRequest
from pagewise.messages import (
    Command,
    Event,
    FrameError,
    FrameReader,
    Generate,
    Load,
    ProfileOperators,
    Quit,
    Stop,
    Unload,
    decode_command,
    encode,
)

_READ = 1 << 16


class Interrupt:
    """Says whether what the engine is doing was stopped.

    ``flag`` is memory that llama.cpp's abort callback reads without Python: its first byte is not 0 once work must end.
    """

    def __init__(self) -> None:
        self.flag = ctypes.create_string_buffer(2)
        self._lock = threading.Lock()
        self._waiting: set[int] = set()
        self._stopped: set[int] = set()
        self._current: int | None = None
        self._quitting = False

    @property
    def raised(self) -> bool:
        """True once the work in hand is to end."""
        return self.flag[0] != b"\0"

    def expect(self, id: int) -> None:
        """Request ``id`` has arrived and waits."""
        with self._lock:
            self._waiting.add(id)

    def stop(self, id: int) -> None:
        """Stop request ``id``, whether it has been begun or still waits; nothing for one that is over."""
        with self._lock:
            if id == self._current:
                self.flag[0] = b"\1"
            elif id in self._waiting:
                self._stopped.add(id)

    def forget(self, id: int) -> None:
        """Request ``id`` was served within another one."""
        with self._lock:
            self._waiting.discard(id)
            self._stopped.discard(id)

    def quit(self) -> None:
        """Stop all, now and later."""
        with self._lock:
            self._quitting = True
            self.flag[0] = b"\1"

    def begin(self, id: int) -> None:
        """Request ``id`` is in hand from now on; it may have been stopped already."""
        with self._lock:
            self._current = id
            self._waiting.discard(id)
            self.flag[0] = b"\1" if self._quitting or id in self._stopped else b"\0"
            self._stopped.discard(id)

    def end(self) -> None:
        """Nothing is in hand."""
        with self._lock:
            self._current = None
            if not self._quitting:
                self.flag[0] = b"\0"


class Arrived(NamedTuple):
    """A command, and when its frame had been read (``perf_counter_ns``)."""

    command: Command
    at_ns: int


class CommandReader(threading.Thread):
    """Reads commands into a queue. Stop and Quit act at once, and a profile is asked for at once.

    The end of the pipe ends the process, decoding or not.
    """

    def __init__(self, descriptor: int, interrupt: Interrupt, ask_profile: Callable[[int], None]) -> None:
        super().__init__(name="commands", daemon=True)
        self.arrived: queue.SimpleQueue[Arrived | FrameError] = queue.SimpleQueue()
        self._descriptor = descriptor
        self._interrupt = interrupt
        self._ask_profile = ask_profile

    def run(self) -> None:
        frames = FrameReader()
        while data := self._read():
            at_ns = time.perf_counter_ns()
            try:
                for _, payload in frames.feed(data):
                    self._take(Arrived(decode_command(payload), at_ns))
            except FrameError as error:
                self.arrived.put(error)
                return
        # The host is gone: whatever runs now runs for nobody, and may hold VRAM.
        os._exit(0)

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, _READ)
        except OSError:
            return b""

    def _take(self, arrived: Arrived) -> None:
        match arrived.command:
            case Stop(id=id):
                self._interrupt.stop(id)
            case ProfileOperators(id=id):
                self._ask_profile(id)
            case Quit():
                self._interrupt.quit()
                self.arrived.put(arrived)
            case Load(id=id) | Unload(id=id) | Generate(id=id) | JobRequest(id=id):
                self._interrupt.expect(id)
                self.arrived.put(arrived)
            case _:
                self.arrived.put(arrived)


class Events:
    """Writes events to the host, each in one go."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, event: Event) -> None:
        """Blocks while the pipe is full. Ends the process where nobody reads any more."""
        data = encode(event)
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
        except OSError:
            os._exit(0)

"""The real program in a pseudo-terminal, with a terminal emulator that shows what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "ctrl+j": "\n",
    "ctrl+n": "\x0e",
    "ctrl+o": "\x0f",
    "ctrl+p": "\x10",
    "ctrl+q": "\x11",
    "ctrl+r": "\x12",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
    "f4": "\x1bOS",
    "f5": "\x1b[15~",
    "f9": "\x1b[20~",
}


class Session:
    """One run of a program in a pseudo-terminal of ``columns`` × ``rows`` cells.

    ``history`` holds (seconds on the monotonic clock, bytes) of every read, so that output can be counted and timed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 40,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self._closed = False
        self.history: list[tuple[float, bytes]] = []
        self.started = time.monotonic()
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        variables = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})}
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            start_new_session=True,
            close_fds=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._closed:
            try:
                ready, _, _ = select.select([self.master], [], [], 0.1)
                if not ready:
                    if self.process.poll() is not None:
                        return
                    continue
                data = os.read(self.master, 65536)
            except (OSError, ValueError):
                return
            if not data:
                return
            with self._lock:
                self.history.append((time.monotonic(), data))
                self._stream.feed(data)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; the program gets SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with self._lock:
            self.screen.resize(rows, columns)

    def lines(self) -> list[str]:
        """What is on the screen, one string a row."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        """What is on the screen, as one string."""
        return "\n".join(self.lines())

    def raw(self) -> bytes:
        """Every byte the program has written."""
        with self._lock:
            return b"".join(data for _, data in self.history)

    def bytes_between(self, start: float, end: float) -> int:
        """How many bytes arrived between two moments of the monotonic clock."""
        with self._lock:
            return sum(len(data) for at, data in self.history if start <= at < end)

    def type(self, text: str) -> None:
        """Type characters."""
        os.write(self.master, text.encode())

    def press(self, *keys: str) -> None:
        """Press keys by name, in order; single characters stand for themselves."""
        for key in keys:
            os.write(self.master, KEYS.get(key, key).encode())

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> float:
        """Wait for ``condition``; returns the seconds it took. An AssertionError shows the screen if it never holds."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                raise AssertionError(f"never seen within {seconds:g} s: {what}\n{self.text()}")
            if self.process.poll() is not None and not condition():
                raise AssertionError(f"the program ended with {self.process.returncode} before: {what}\n{self.text()}")
            select.select([], [], [], 0.01)
        return time.monotonic() - start

    def wait_for(self, text: str, seconds: float = 30.0) -> float:
        """Wait until ``text`` is on the screen; returns the seconds it took."""
        return self.wait_until(lambda: text in self.text(), repr(text), seconds)

    def wait_end(self, seconds: float = 15.0) -> int:
        """Wait for the program to end; returns its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def terminal_restored(self) -> bool:
        """Whether the line settings are those from before, the alternate screen is left and the cursor is shown."""
        raw = self.raw()
        left = raw.rfind(b"\x1b[?1049l") > raw.rfind(b"\x1b[?1049h")
        shown = raw.rfind(b"\x1b[?25h") > raw.rfind(b"\x1b[?25l")
        settings = termios.tcgetattr(self._slave)
        return left and shown and settings[:4] == self.before[:4]

    def close(self) -> None:
        """End the program, whatever it is doing, and let go of the terminal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        # A reader that outlives its descriptor would take the bytes of the next session that gets the same number.
        self._closed = True
        self._reader.join(5)
        for descriptor in (self._slave, self.master):
            try:
                os.close(descriptor)
            except OSError:
                continue

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def pagewise(*arguments: str) -> list[str]:
    """The command line that runs the installed program with this interpreter."""
    return [sys.executable, "-m", "pagewise", *arguments]

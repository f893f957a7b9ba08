"""llama.cpp's own log: kept in a ring to explain failures, and written to the engine's log file."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from llama_cpp import llama_cpp

from pagewise.models.gguf import printable

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5
"""ggml.h's levels. (llama-cpp-python's own table is off by one.)"""
_PREFIX = re.compile(r"^(?:[a-zA-Z_][\w:]*(?:\(\))?:\s+)+")
_KEPT = 4000
_STDERR = 2


class Line(NamedTuple):
    """One line of the log."""

    number: int
    level: int
    text: str


class Log:
    """Receives what llama.cpp says, from any of its threads."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=_KEPT)
        self._number = 0
        self._speaking = False
        self._is_written = True
        self._follower: Callable[[str], None] | None = None
        self._callback = llama_cpp.llama_log_callback(self._receive)

    def install(self) -> None:
        """Take the place of llama-cpp-python's callback, which prints."""
        llama_cpp.llama_log_set(self._callback, None)

    @contextlib.contextmanager
    def unwritten(self) -> Iterator[None]:
        """What comes meanwhile is kept, and not written to the engine's log: that tells of what was really done."""
        self._is_written = False
        try:
            yield
        finally:
            self._is_written = True

    def mark(self) -> int:
        """A place in the log, for ``since``."""
        return self._number

    def since(self, mark: int, level: int = INFO) -> list[str]:
        """Lines of at least ``level`` that came after ``mark``."""
        return [line.text for line in self._lines if line.number > mark and line.level >= level]

    @contextlib.contextmanager
    def followed(self, follower: Callable[[str], None]) -> Iterator[None]:
        """Within it ``follower`` gets each line as it comes, on the thread that llama.cpp speaks on."""
        former, self._follower = self._follower, follower
        try:
            yield
        finally:
            self._follower = former

    def reason(self, mark: int) -> str:
        """What llama.cpp gave as the reason of a failure since ``mark``: its last error, without function names."""
        errors = [_PREFIX.sub("", text).strip() for text in self.since(mark, ERROR)]
        telling = [text for text in errors if text and not text.startswith(_ECHOES)]
        return printable((telling or errors or [""])[0])

    def _receive(self, level: int, text: bytes | None, _user_data: Any) -> None:
        if level != CONTINUED:
            self._speaking = level > DEBUG
        if not text or not self._speaking:
            # Debug lines come by the hundred with every graph that is built, and would take the interpreter each time.
            return
        if self._is_written:
            os.write(_STDERR, text)
        decoded = text.decode("utf-8", errors="replace").rstrip("\n")
        if level == CONTINUED:
            if decoded.strip(".") and self._lines:
                last = self._lines[-1]
                self._lines[-1] = last._replace(text=last.text + decoded)
            return
        self._number += 1
        self._lines.append(Line(self._number, level, decoded))
        if self._follower is not None:
            self._follower(decoded)


_ECHOES = ("failed to load model", "exiting", "failed to decode")
log = Log()

"""The terminal as a driver for Textual that survives bad input and a line that is cut.

Textual's own driver ends the program with a traceback on bytes that are not UTF-8, spins when the terminal is gone, and
blocks for ever on writes that can no longer be made.
"""

from __future__ import annotations

import codecs
import os
import selectors
import sys
from typing import IO, Any, cast

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.messages import ExitApp

from pagewise.app.visible import visible

_READ = 64 * 1024
_PASTE_START, _PASTE_END = "\x1b[200~", "\x1b[201~"


class PatientFile:
    """The terminal's output: once it is gone, what is written goes nowhere."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._gone = False

    def write(self, text: str) -> int:
        """Write, unless the terminal is gone."""
        if not self._gone:
            try:
                return self._file.write(text)
            except (OSError, ValueError):
                self._gone = True
        return len(text)

    def flush(self) -> None:
        """Flush, unless the terminal is gone."""
        if not self._gone:
            try:
                self._file.flush()
            except (OSError, ValueError):
                self._gone = True

    def fileno(self) -> int:
        """The terminal's descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()


class PasteFilter:
    """Makes control characters of pasted text visible before Textual takes an escape among them for a key.

    An escape at the very end of what was read is passed on at once, since it may be the key: a paste whose mark is cut
    just there is not recognized, and Textual shows its escapes as keys.
    """

    def __init__(self) -> None:
        self._pasting = False
        self._held = ""

    def feed(self, text: str) -> str:
        """What has been read, with pastes made safe. The beginning of a mark at the end is kept for the next call."""
        text = self._held + text
        self._held = ""
        done: list[str] = []
        while text:
            mark = _PASTE_END if self._pasting else _PASTE_START
            before, found, text = text.partition(mark)
            if not found and (length := _beginning_of(mark, before)) and (self._pasting or length > 1):
                before, self._held = before[:-length], before[-length:]
            done.append(visible(before.replace("\r\n", "\n").replace("\r", "\n")) if self._pasting else before)
            if found:
                done.append(mark)
                self._pasting = not self._pasting
        return "".join(done)


def _beginning_of(mark: str, text: str) -> int:
    """How many characters at the end of the text begin the mark."""
    return next((length for length in range(len(mark) - 1, 0, -1) if text.endswith(mark[:length])), 0)


class TerminalDriver(LinuxDriver):
    """Reads keys with invalid bytes replaced, and ends the app when the terminal closes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Textual asks of its output nothing else than what a PatientFile has.
        streams = [stream for stream in (sys.__stderr__, sys.__stdout__) if stream is not None]
        screen = next((stream for stream in streams if stream.isatty()), None)
        if screen is not None:
            self._file = cast(Any, PatientFile(screen))

    def _sigcont_application(self, *_: object) -> None:
        """Resume what was suspended, and nothing else.

        A terminal that closes sends SIGCONT right after SIGHUP, in the middle of the clean-up: Textual's handler would
        start a thread while one is being joined, and wait for ever.
        """
        if self._must_signal_resume:
            super()._sigcont_application()

    def run_input_thread(self) -> None:
        """Wait for input and pass on what it means, until told to end or the terminal is gone."""
        parser = XTermParser(self._debug)
        filtered = PasteFilter().feed
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(0.1):
                    try:
                        data = os.read(self.fileno, _READ)
                    except OSError:
                        data = b""
                    if not data:
                        self._app.post_message(ExitApp())
                        return
                    for event in parser.feed(filtered(decode(data))):
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)

"""What an engine has died of on this machine for a reason that does not go away: it is not tried again."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from pagewise.tuner.lines import add_line, read_lines, tune_folder


class Fatal(Struct, frozen=True):
    """One setting with which an engine has died."""

    machine: str
    library: str
    """llama.cpp's version and build: another one may bear it."""
    key: str
    value: str
    why: str


class FatalSettings:
    """Those of one machine and one build of llama.cpp, whatever the model."""

    def __init__(self, machine: str, library: str, folder: Path | None = None) -> None:
        self.path = (folder or tune_folder()) / "fatal.jsonl"
        self._machine, self._library = machine, library

    def keep(self, key: str, value: str, why: str) -> None:
        """An engine has died of it."""
        if self.why(key, value) is None:
            add_line(self.path, Fatal(self._machine, self._library, key, value, why))

    def why(self, key: str, value: str) -> str | None:
        """How the engine ended with it; None: nothing like that is known."""
        for entry in read_lines(self.path, Fatal):
            if (entry.machine, entry.library, entry.key, entry.value) == (self._machine, self._library, key, value):
                return entry.why
        return None

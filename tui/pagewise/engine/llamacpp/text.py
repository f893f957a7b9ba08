"""From the bytes of tokens to text that may be shown: whole characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable


class StreamedText:
    """Takes tokens' bytes one by one; gives the text they complete. Bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.stopped = False
        """A stop string has come; nothing follows."""

    def feed(self, piece: bytes) -> str:
        """The text that is certain now. Held back: an unfinished character, and what may begin a stop string."""
        return self._release(self._decoder.decode(piece))

    def end(self) -> str:
        """What was held back, once no token follows."""
        rest = self._release(self._decoder.decode(b"", final=True))
        if self.stopped:
            return rest
        rest, self._held = rest + self._held, ""
        return rest

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return text
        text = self._held + text
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop`` without being all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def text_of(pieces: Iterable[bytes]) -> str:
    """All of it at once, as ``StreamedText`` without stop strings gives it."""
    return b"".join(pieces).decode("utf-8", errors="replace")

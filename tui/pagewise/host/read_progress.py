"""How far the reading of a model file is, from outside: under mmap llama.cpp says nothing until all of it is read."""

from __future__ import annotations

from pathlib import Path

from pagewise.host.gauges import model_parts
from pagewise.instruments.counters import Counters
from pagewise.instruments.pagecache import PAGE, Cachestat, Way


class ReadProgress:
    """Bytes of a model's files that are in memory, or were read since the load began, whichever is more.

    Raises OSError where a file is missing.
    """

    def __init__(self, pid: int, path: Path) -> None:
        parts = model_parts(path)
        self._sizes = [part.stat().st_size for part in parts]
        self._caches = [_cachestat(part) for part in parts]
        self._counters = Counters(pid)
        self._start = self._counters.read().read_bytes
        self._cached_at_start = self._cached()
        self.total_bytes = sum(self._sizes)

    def done_bytes(self) -> int:
        """Bytes so far, at most ``total_bytes``."""
        read = self._counters.read().read_bytes
        came = read - self._start if read is not None and self._start is not None else 0
        # Where memory is too small for the file, its beginning has left the cache when its end comes in.
        return min(self.total_bytes, max(self._cached(), self._cached_at_start + came))

    def close(self) -> None:
        """Lets go of files and counters."""
        self._counters.close()
        for cache in self._caches:
            if cache is not None:
                cache.close()

    def _cached(self) -> int:
        cached = 0
        for cache, size in zip(self._caches, self._sizes, strict=True):
            if cache is not None and size:
                cached += min(size, cache.pages(0, size).present * PAGE)
        return cached


def _cachestat(path: Path) -> Way | None:
    try:
        return Cachestat(path)
    except OSError:
        return None

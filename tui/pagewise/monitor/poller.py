"""Asks servers in threads of its own, so that a slow one holds up neither the readings nor the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import msgspec

from pagewise.monitor.http import parse_url
from pagewise.monitor.servers import Server
from pagewise.readings import Missing, ServerReadings

EVERY_S = 1.0
SILENT_EVERY_S = 10.0
"""How often a server is asked that gave no answer."""
_REST = 5.0
"""A server that takes its time over the answers is left alone for so many times as long."""
_THREADS = 4
_MOST_SERVERS = 64


@dataclass
class _Polled:
    server: Server
    since_s: float
    due_s: float = 0.0
    answered_s: float | None = None
    last: ServerReadings | None = None
    running: Future[None] | None = None


class Poller:
    """``want`` says which servers are to be asked, ``latest`` what was answered last; neither ever waits."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = max(EVERY_S, every_s)
        self._polled: dict[str, _Polled] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="servers")
        self._lock = threading.Lock()

    def want(self, urls: Iterable[tuple[str, str]]) -> None:
        """These servers, as (url, kind or nothing), and no others. Raises ValueError for what is no URL."""
        wanted = dict(list(urls)[:_MOST_SERVERS])
        for url in self._polled.keys() - wanted.keys():
            del self._polled[url]
        now = time.monotonic()
        for url, kind in wanted.items():
            if url not in self._polled:
                self._polled[url] = _Polled(Server(url, parse_url(url), kind), now)
            polled = self._polled[url]
            if polled.running is not None and polled.running.done():
                polled.running.result()
                polled.running = None
            if now >= polled.due_s and polled.running is None:
                polled.due_s = now + self._every_s
                polled.running = self._pool.submit(self._ask, polled)

    def latest(self, url: str) -> ServerReadings | None:
        """What this server said last, with its age; None if it is not wanted."""
        polled = self._polled.get(url)
        if polled is None:
            return None
        now = time.monotonic()
        with self._lock:
            last, answered = polled.last, polled.answered_s
        if last is None:
            return ServerReadings(
                url, "", now - polled.since_s, missing=(Missing("server", f"{url}: it has not answered yet"),)
            )
        return msgspec.structs.replace(last, age_s=now - (answered or polled.since_s))

    def settle(self, within_s: float) -> None:
        """Wait for the answers that are under way, but no longer than this."""
        wait([polled.running for polled in self._polled.values() if polled.running is not None], timeout=within_s)

    def close(self) -> None:
        """Ask no more."""
        self._polled.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, polled: _Polled) -> None:
        began = time.monotonic()
        answer = polled.server.ask()
        now = time.monotonic()
        silent = not answer.kind or any(entry.metric == "server" for entry in answer.missing)
        with self._lock:
            polled.last = answer
            polled.answered_s = now
        polled.due_s = now + (SILENT_EVERY_S if silent else max(self._every_s, _REST * (now - began)))

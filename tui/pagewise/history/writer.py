"""The thread that writes: nobody who talks to the history waits for a disk.

Statements are taken in the order in which they were handed in, all that wait in one transaction. One that cannot be
written stays at the head of the line and is tried again: a full disk or a lock delays, and loses nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable

from pagewise.messages import Failure

Statement = tuple[str, tuple[object, ...]]
RETRY_S = 1.0


class Writer:
    """Owns one connection and the line of statements that wait for it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: threading.RLock,
        explain: Callable[[sqlite3.Error], Failure],
        on_failure: Callable[[Failure], None],
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._explain = explain
        self._on_failure = on_failure
        self._waiting: deque[tuple[Statement, ...]] = deque()
        self._state = threading.Condition()
        self._closing = False
        self._writing = False
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def put(self, *statements: Statement) -> None:
        """Hand in statements that belong together: all of them are written, or none."""
        with self._state:
            if self._closing:
                raise RuntimeError("the history is closed")
            self._waiting.append(statements)
            self._state.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was handed in is written; False if that does not happen in time, or cannot now."""
        with self._state:
            self._state.wait_for(lambda: self._failed or not (self._waiting or self._writing), timeout_s)
            return not (self._waiting or self._writing)

    def close(self) -> int:
        """Write what waits, if that can be done, and end. Returns how many statements could not be written."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._thread.join()
        with self._lock:
            self._connection.close()
        return sum(len(statements) for statements in self._waiting)

    def _run(self) -> None:
        while True:
            with self._state:
                if self._failed and not self._closing:
                    self._state.wait_for(lambda: self._closing, RETRY_S)
                self._state.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                batch = list(self._waiting)
                last_try = self._closing
                self._writing = True
            error = self._write(batch)
            with self._state:
                if error is None:
                    for _ in batch:
                        self._waiting.popleft()
                first = error is not None and not self._failed
                self._failed = error is not None
                self._writing = False
                self._state.notify_all()
            if error is not None and first:
                self._on_failure(self._explain(error))
            if error is not None and last_try:
                return

    def _write(self, batch: list[tuple[Statement, ...]]) -> sqlite3.Error | None:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                for statements in batch:
                    for sql, values in statements:
                        self._connection.execute(sql, values)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                try:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                except sqlite3.Error as second:
                    error.__context__ = second
                return error
        return None

"""Conversations in SQLite, written while tokens arrive: a program that is killed loses nothing it had received.

Write-ahead log with ``synchronous=NORMAL``: a commit is a write to the log without a sync, so it survives the end of
the program at once, and the end of the machine up to the last checkpoint.
"""

from __future__ import annotations

import secrets
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from pagewise.history.faults import failure_of
from pagewise.history.records import ConversationRow, HistoryError, StoredMessage
from pagewise.history.schema import NewerSchema, migrate
from pagewise.history.writer import Writer
from pagewise.messages import Failure, StopReason
from pagewise.readings import TurnTiming

TITLE = 80
_BUSY_MS = 250
_SETTLE_S = 0.5
_MEMORY = ":memory:"


def history_file() -> Path:
    """The user's history."""
    return platformdirs.user_data_path("pagewise") / "history.db"


class History:
    """The conversations in one database file.

    Writing never waits for the disk and never raises: a fault is told once through ``on_failure``, from the writer's
    thread, and what could not be written is kept and tried again. Reading sees what this process has handed in.
    """

    def __init__(self, path: Path | None = None, on_failure: Callable[[Failure], None] | None = None) -> None:
        """Open the history in ``path`` (None: the user's own). Raises HistoryError; ``in_memory`` always works."""
        self._open(path or history_file(), on_failure)

    @classmethod
    def in_memory(cls, on_failure: Callable[[Failure], None] | None = None) -> History:
        """A history that lasts as long as the program."""
        history = cls.__new__(cls)
        history._open(None, on_failure)
        return history

    def _open(self, path: Path | None, on_failure: Callable[[Failure], None] | None) -> None:
        self.path = path
        self._on_failure = on_failure or (lambda failure: None)
        self._running: set[int] = set()
        self._last_id = 0
        self._reading = threading.RLock()
        shown = path or Path(_MEMORY)
        try:
            if path is None:
                writing = self._reader = _connect(_MEMORY)
                write_lock = self._reading
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                writing = _connect(str(path))
                write_lock = threading.RLock()
            try:
                writing.execute("PRAGMA journal_mode = WAL")
                writing.execute("PRAGMA synchronous = NORMAL")
                migrate(writing)
                if path is not None:
                    self._reader = _connect(str(path))
            except BaseException:
                writing.close()
                raise
        except NewerSchema as error:
            raise HistoryError(
                Failure(
                    "Earlier conversations cannot be read",
                    f"{shown} was written by a newer release of pagewise ({error}).",
                    "Update pagewise; until then this conversation is kept in memory only.",
                )
            ) from error
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(failure_of(error, shown)) from error
        self._writer = Writer(writing, write_lock, lambda error: failure_of(error, shown), self._on_failure)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def new_conversation(self, profile: str) -> int:
        """Begin a conversation under a profile; its id."""
        conversation, now = self._new_id(), time.time()
        self._writer.put(
            ("INSERT INTO conversation VALUES (?, ?, ?, ?)", (conversation, _clean(profile), now, now)),
        )
        return conversation

    def add_user(self, conversation: int, text: str) -> int:
        """Keep a question; the message's id."""
        return self._add(conversation, "user", text, "", "", "")

    def begin_reply(self, conversation: int, profile: str, model: str, vocabulary: str = "") -> int:
        """Begin a reply that will be appended to; the message's id. ``vocabulary``: where its token ids are valid."""
        reply = self._add(conversation, "assistant", "", profile, model, vocabulary)
        self._running.add(reply)
        return reply

    def append(self, reply: int, text: str, ids: Sequence[int] = ()) -> None:
        """Keep what has just arrived of a reply."""
        self._writer.put(
            (
                """INSERT INTO part (reply, text, ids) SELECT ?1, ?2, ?3
                   WHERE EXISTS (SELECT 1 FROM message WHERE id = ?1)""",
                (reply, _clean(text), _packed(ids)),
            ),
        )

    def finish(self, reply: int, reason: StopReason, timing: TurnTiming | None = None) -> None:
        """The reply is over. Its text and ids are what was appended."""
        self._running.discard(reply)
        encoded = None if timing is None else msgspec.json.encode(timing)
        self._writer.put(
            (
                """UPDATE message SET text = joined_text(?1), ids = joined_ids(?1), reason = ?2, timing = ?3
                   WHERE id = ?1 AND reason IS NULL""",
                (reply, reason, encoded),
            ),
            ("DELETE FROM part WHERE reply = ?", (reply,)),
            (
                "UPDATE conversation SET updated_at = ? WHERE id = (SELECT conversation FROM message WHERE id = ?)",
                (time.time(), reply),
            ),
        )

    def delete(self, conversation: int) -> None:
        """Delete a conversation and all its messages. What is still said in it afterwards is not kept."""
        self._writer.put(("DELETE FROM conversation WHERE id = ?", (conversation,)))

    def close(self) -> None:
        """Write what waits and close. What cannot be written even now is lost, and ``on_failure`` is told how much."""
        lost = self._writer.close()
        with self._reading:
            self._reader.close()
        if lost:
            self._on_failure(
                Failure(
                    "The last part of the conversation was not saved",
                    f"{lost} entries could not be written to {self.path}.",
                    "Free the disk or the lock before the next start; everything before them is saved.",
                )
            )

    # ---- reading ---------------------------------------------------------------------------------------------------

    def conversations(self, limit: int = 100, search: str = "") -> list[ConversationRow]:
        """The latest conversations first; with ``search`` those that contain it, in any message and any case.

        Raises HistoryError.
        """
        where = (
            """WHERE EXISTS (SELECT 1 FROM message m WHERE m.conversation = c.id AND contains(m.text, ?1))
               OR EXISTS (SELECT 1 FROM message m JOIN part p ON p.reply = m.id
                          WHERE m.conversation = c.id AND contains(p.text, ?1))"""
            if search
            else "WHERE ?1 = ''"
        )
        rows = self._query(
            f"""SELECT c.id, c.profile, c.started_at, c.updated_at,
                       (SELECT COUNT(*) FROM message m WHERE m.conversation = c.id),
                       (SELECT text FROM message m WHERE m.conversation = c.id AND role = 'user' ORDER BY id LIMIT 1)
                FROM conversation c {where} ORDER BY c.updated_at DESC, c.id DESC LIMIT ?2""",
            (_clean(search).casefold(), limit),
        )
        return [
            ConversationRow(id, _title(first or ""), profile, started, updated, n)
            for id, profile, started, updated, n, first in rows
        ]

    def messages(self, conversation: int) -> list[StoredMessage]:
        """The messages of a conversation in order; none if there is no such conversation. Raises HistoryError."""
        rows = self._query(
            """SELECT id, role, text, at, ids, vocabulary, profile, model, reason, timing FROM message
               WHERE conversation = ? ORDER BY id""",
            (conversation,),
        )
        return [self._message(row) for row in rows]

    def last(self) -> int | None:
        """The conversation that was used last and has a message, or None. Raises HistoryError."""
        rows = self._query(
            """SELECT id FROM conversation c WHERE EXISTS (SELECT 1 FROM message m WHERE m.conversation = c.id)
               ORDER BY updated_at DESC, id DESC LIMIT 1""",
            (),
        )
        return rows[0][0] if rows else None

    def settle(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything handed in is on disk; False if it is not by then."""
        return self._writer.settle(timeout_s)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _add(self, conversation: int, role: str, text: str, profile: str, model: str, vocabulary: str) -> int:
        message, now = self._new_id(), time.time()
        values = (message, conversation, role, _clean(text), now, b"", vocabulary, _clean(profile), _clean(model))
        self._writer.put(
            (
                """INSERT INTO message SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, NULL
                   WHERE EXISTS (SELECT 1 FROM conversation WHERE id = ?2)""",
                values,
            ),
            ("UPDATE conversation SET updated_at = ? WHERE id = ?", (now, conversation)),
        )
        return message

    def _new_id(self) -> int:
        """Ids grow with time, so they order messages; their random end keeps two programs apart."""
        self._last_id = max(self._last_id + 1, (time.time_ns() // 1_000_000 << 20) | secrets.randbits(20))
        return self._last_id

    def _query(self, sql: str, values: tuple[object, ...]) -> list[Any]:
        self._writer.settle(_SETTLE_S)
        with self._reading:
            try:
                return self._reader.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise HistoryError(failure_of(error, self.path or Path(_MEMORY))) from error

    def _message(self, row: tuple[Any, ...]) -> StoredMessage:
        id, role, text, at, ids, vocabulary, profile, model, reason, timing = row
        if role == "assistant" and reason is None:
            parts = self._query("SELECT text, ids FROM part WHERE reply = ? ORDER BY id", (id,))
            text = "".join(part[0] for part in parts)
            ids = b"".join(part[1] for part in parts)
            reason = None if id in self._running else "interrupted"
        return StoredMessage(id, role, text, at, _unpacked(ids), vocabulary, profile, model, reason, _timing(timing))


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.create_function("contains", 2, lambda text, part: part in text.casefold(), deterministic=True)

    def joined_text(reply: int) -> str:
        return "".join(
            row[0] for row in connection.execute("SELECT text FROM part WHERE reply = ? ORDER BY id", (reply,))
        )

    def joined_ids(reply: int) -> bytes:
        return b"".join(
            row[0] for row in connection.execute("SELECT ids FROM part WHERE reply = ? ORDER BY id", (reply,))
        )

    connection.create_function("joined_text", 1, joined_text)
    connection.create_function("joined_ids", 1, joined_ids)
    return connection


def _clean(text: str) -> str:
    """``text`` without lone surrogates, which are no characters and cannot be stored."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE else line[: TITLE - 1] + "…"


def _packed(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}i", *ids)


def _unpacked(ids: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(ids) // 4}i", ids[: len(ids) // 4 * 4])


def _timing(encoded: bytes | None) -> TurnTiming | None:
    if encoded is None:
        return None
    try:
        return msgspec.json.decode(encoded, type=TurnTiming)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None

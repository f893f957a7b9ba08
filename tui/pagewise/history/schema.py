"""The tables of the history's database, one step for each version: ``PRAGMA user_version`` says how far a file is."""

from __future__ import annotations

import sqlite3

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE conversation (
            id INTEGER PRIMARY KEY,
            profile TEXT NOT NULL,
            started_at REAL NOT NULL,
            updated_at REAL NOT NULL
        )""",
        """CREATE TABLE message (
            id INTEGER PRIMARY KEY,
            conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            at REAL NOT NULL,
            ids BLOB NOT NULL,
            vocabulary TEXT NOT NULL,
            profile TEXT NOT NULL,
            model TEXT NOT NULL,
            reason TEXT,
            timing BLOB
        )""",
        "CREATE INDEX message_of_conversation ON message (conversation, id)",
        """CREATE TABLE part (
            id INTEGER PRIMARY KEY,
            reply INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
            text TEXT NOT NULL,
            ids BLOB NOT NULL
        )""",
        "CREATE INDEX part_of_reply ON part (reply, id)",
        "CREATE INDEX conversation_by_time ON conversation (updated_at)",
    ),
)
"""``part`` holds what arrived of a reply that is not finished: to append to one long text rewrites it each time."""

VERSION = len(STEPS)


class NewerSchema(Exception):
    """The file was written by a later release; ``found`` is its version."""

    def __init__(self, found: int) -> None:
        super().__init__(f"version {found}, and this release knows {VERSION}")
        self.found = found


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to VERSION, in one transaction. Raises NewerSchema or sqlite3.Error; which leave it as it was."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise NewerSchema(found)
        for step in STEPS[found:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise

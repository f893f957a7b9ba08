"""Conversations, kept in SQLite while they happen."""

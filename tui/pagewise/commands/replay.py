"""``pagewise replay``: plays a record in the screens of what was recorded."""

from __future__ import annotations

from pathlib import Path

from pagewise.commands.chat import check_theme
from pagewise.messages import Failure, HostHello, Monitor, Monitored
from pagewise.record.format import RecordError
from pagewise.record.player import Player
from pagewise.record.reader import Record


def run(file: Path, theme: str | None) -> None:
    """Open the record; returns when the person quits. Raises RecordError or ThemeError before the screen is touched."""
    if theme is not None:
        check_theme(theme)
    with Record(file) as record:
        if len(record) == 0:
            raise RecordError(
                Failure("There is nothing to replay", f"{file} holds no reading yet.", record.remark or "Record again.")
            )
        player = Player(record)
        if record.has(Monitored) and not record.has(HostHello):
            from pagewise.app.replay_app import MonitorReplayApp

            MonitorReplayApp(player, _wanted(record), theme).run()
        else:
            from pagewise.app.replay_app import ReplayApp

            ReplayApp(player, theme).run()


def _wanted(record: Record) -> Monitor:
    """What the monitor was asked for; where that is not recorded, its samples say how often they came."""
    for _, message in record:
        if isinstance(message, Monitor):
            return message
        if isinstance(message, Monitored) and message.sample.interval_s > 0:
            return Monitor(round(message.sample.interval_s, 1))
    return Monitor(1.0)

"""``pagewise doctor``: all findings, as text or JSON."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import click

from pagewise.commands.chat import starting_profile
from pagewise.commands.output import as_json
from pagewise.doctor import build, folders, gpus, machine, peaks, permissions, terminal
from pagewise.doctor.findings import Finding
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.parse import GUIDE

_MARK = {"ok": "ok  ", "note": "note", "warn": "WARN", "fail": "FAIL"}
_INDENT = 25


def run(json: bool, file: Path | None = None) -> int:
    """Write all findings; 1 if something cannot work, else 0. ``file``: the model whose disk is measured."""
    if not json and sys.stderr.isatty():
        click.echo("Looking at this machine; an engine is started for it …", err=True)
    devices = gpus.sample()
    found = [
        *machine.findings(),
        *peaks.findings(file if file is not None else last_model()),
        *gpus.findings(devices),
        *build.findings(has_gpu=bool(devices.devices)),
        *terminal.findings(),
        *permissions.findings(),
        *folders.findings(),
    ]
    click.echo(as_json({"findings": found}) if json else "\n".join(_lines(found)))
    return 1 if any(finding.state == "fail" for finding in found) else 0


def last_model() -> Path | None:
    """The file of the profile that was used last, if it names one."""
    try:
        profile, _ = starting_profile(None, (), None)
    except ProfileError:
        # Whoever starts the chat is told of it; here it only means that no file is known.
        return None
    return None if profile.model == GUIDE else Path(profile.model).expanduser()


def _lines(found: list[Finding]) -> list[str]:
    lines: list[str] = []
    area = ""
    for finding in found:
        if finding.area != area:
            area = finding.area
            lines += ([""] if lines else []) + [area]
        lines += _wrapped(f"  {_MARK[finding.state]}  {finding.name:<17}", finding.value)
        if finding.fix:
            lines += _wrapped(" " * _INDENT + "→ ", finding.fix)
    return lines


def _wrapped(start: str, text: str) -> list[str]:
    """``text`` behind ``start``, in as many lines as the terminal needs; one line where there is no terminal."""
    width = max(_INDENT + 20, shutil.get_terminal_size().columns) if sys.stdout.isatty() else sys.maxsize
    room = width - len(start)
    pieces = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [start + pieces[0], *(" " * len(start) + piece for piece in pieces[1:])]

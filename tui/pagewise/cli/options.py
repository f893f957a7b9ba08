"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

record_option = click.option(
    "--record",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep every reading and reply in FILE, for replay and report.",
)
overrides_option = click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the profile; repeatable."
)

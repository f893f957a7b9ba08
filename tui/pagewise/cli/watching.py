"""Commands that look: at this machine, at what runs on it, and at what was recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pagewise.cli.options import record_option


@click.command()
@click.option("--file", "file", type=click.Path(path_type=Path), help="Measure the disk that this file is on.")
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def doctor(context: click.Context, file: Path | None, json: bool) -> None:
    """What this machine can do.

    Processor, memory and disk with their peaks, GPUs, this build of llama.cpp, the terminal, permissions: each finding
    with its fix. The disk is measured by reading a model for a second; nothing is written to it.
    """
    from pagewise.commands import doctor as command

    context.exit(command.run(json, file))


@click.command()
@click.option("--pid", type=click.IntRange(1), help="Watch this process alone.")
@click.option("--file", type=click.Path(path_type=Path), help="Watch the processes that hold this GGUF file.")
@click.option("--url", help="Watch the server at this address, such as http://127.0.0.1:8080.")
@click.option("--once", is_flag=True, help="Print one table and end.")
@click.option("--json", is_flag=True, help="One JSON object a sample, described in docs/monitor.md.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=click.IntRange(1), help="End after so many samples.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve the readings to Prometheus, such as 127.0.0.1:9184.")
@click.option("--theme", metavar="NAME", help="Begin with this theme.")
@record_option
@click.pass_context
def monitor(
    context: click.Context,
    pid: int | None,
    file: Path | None,
    url: str | None,
    once: bool,
    json: bool,
    interval: float,
    count: int | None,
    listen: str | None,
    theme: str | None,
    record: Path | None,
) -> None:
    """The models that other processes have: llama-server, Ollama, pagewise, any that holds a GGUF file."""
    from pagewise.commands import monitor as command

    if once and (listen is not None or count is not None):
        raise click.UsageError("--once prints one table and ends: it takes neither --listen nor --count.")
    if count is not None and not (json or listen is not None):
        raise click.UsageError("--count is for --json and --listen.")
    if once or json or listen is not None:
        context.exit(command.run(pid, file, url, interval, count, once, json, listen, record))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("The full screen needs a terminal. For scripts there are --once, --json and --listen.")
    context.exit(command.full_screen(pid, file, url, interval, theme, record))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--theme", metavar="NAME", help="Begin with this theme.")
def replay(file: Path, theme: str | None) -> None:
    """Play a record that --record made, in the same screens."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("A replay needs a terminal. For a page or tables there is `pagewise report`.")
    from pagewise.commands.replay import run

    run(file, theme)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page to write; the default is FILE with .html.")
@click.option("--csv", metavar="FOLDER", type=click.Path(path_type=Path), help="Write tables as CSV too.")
def report(file: Path, out: Path | None, csv: Path | None) -> None:
    """Make one HTML page of a record, with plots: nothing else is needed to read it."""
    from pagewise.commands.report import run

    for line in run(file, out, csv):
        click.echo(line)

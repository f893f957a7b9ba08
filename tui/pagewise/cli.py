"""The command line: parses, then hands on. Each command's own modules are imported when it runs, and not before."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pagewise import __version__
from pagewise.messages import Failure

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_record = click.option(
    "--record",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep every reading and reply in FILE, for replay and report.",
)


@click.group(invoke_without_command=True, context_settings=_SETTINGS)
@click.option("--continue", "continue_last", is_flag=True, help="Open the last conversation.")
@click.option("--profile", metavar="NAME", help="Begin with this profile; the default is the last one used.")
@click.option("--model", metavar="FILE", help="Begin with this GGUF file.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the profile; repeatable."
)
@click.option("--theme", metavar="NAME", help="Begin with this theme.")
@_record
@click.version_option(__version__, package_name="pagewise")
@click.pass_context
def group(
    context: click.Context,
    continue_last: bool,
    profile: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    theme: str | None,
    record: Path | None,
) -> None:
    """Chat with a local model, beside the instruments that show where its bytes and its milliseconds are.

    Without a command the chat opens.
    """
    if context.invoked_subcommand is not None:
        if continue_last or profile or model or overrides or theme or record:
            raise click.UsageError(f"Give the options of {context.invoked_subcommand} behind its name.")
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("The chat needs a terminal. For scripts there is `pagewise ask`.")
    from pagewise.commands.chat import run

    run(profile, overrides, model, theme, continue_last, record)


@group.command()
@click.argument("question")
@click.option("--profile", metavar="NAME", help="The profile to answer under; the default is the guide.")
@click.option("--model", metavar="FILE", help="The GGUF file to ask.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the profile; repeatable."
)
@click.option("--max-tokens", type=click.IntRange(1, 16_777_216), help="End the answer after so many tokens.")
@click.option("--json", is_flag=True, help="One JSON object: the text with its counts and times.")
@_record
@click.pass_context
def ask(
    context: click.Context,
    question: str,
    profile: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    max_tokens: int | None,
    json: bool,
    record: Path | None,
) -> None:
    """Answer one question, for scripts.

    QUESTION is answered on standard output; - reads it from standard input.
    """
    from pagewise.commands import ask as command
    from pagewise.profiles.files import resolve

    text = command.question_text(question)
    if not text.strip():
        raise click.UsageError("The question is empty.")
    if len(text) > command.MAX_QUESTION:
        raise click.UsageError(f"The question is longer than {command.MAX_QUESTION:,} bytes.")
    chosen = command.with_limit(resolve(profile, overrides, model), max_tokens)
    context.exit(command.run(text, chosen, json, record))


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", is_flag=True, help="The same as one JSON object.")
def inspect(file: Path, json: bool) -> None:
    """What a GGUF file holds.

    Architecture, quant mix, layers with their bytes, KV cache, context length.
    """
    from pagewise.commands import inspect as command

    click.echo(command.run(file, json))


@group.command()
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def doctor(context: click.Context, json: bool) -> None:
    """What this machine can do.

    Processor, memory, GPUs, this build of llama.cpp, the terminal, permissions: each finding with its fix.
    """
    from pagewise.commands import doctor as command

    context.exit(command.run(json))


@group.command()
@click.option("--json", is_flag=True, help="All keys of all profiles as one JSON object.")
@click.option("--keys", is_flag=True, help="Every key that a profile may have, and what it takes.")
def profiles(json: bool, keys: bool) -> None:
    """The profiles that there are."""
    from pagewise.commands import profiles as command

    if keys:
        click.echo(command.keys())
        return
    text, failures = command.run(json)
    click.echo(text)
    if failures:
        click.echo(command.failures_text(failures), err=True)


@group.command()
@click.option("--pid", type=click.IntRange(1), help="Watch this process alone.")
@click.option("--file", type=click.Path(path_type=Path), help="Watch the processes that hold this GGUF file.")
@click.option("--url", help="Watch the server at this address, such as http://127.0.0.1:8080.")
@click.option("--once", is_flag=True, help="Print one table and end.")
@click.option("--json", is_flag=True, help="One JSON object a sample, described in docs/monitor.md.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=click.IntRange(1), help="End after so many samples.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve the readings to Prometheus, such as 127.0.0.1:9184.")
@click.option("--theme", metavar="NAME", help="Begin with this theme.")
@_record
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

    if once or json or listen is not None:
        context.exit(command.run(pid, file, url, interval, count, once, json, listen, record))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("The full screen needs a terminal. For scripts there are --once, --json and --listen.")
    context.exit(command.full_screen(pid, file, url, interval, theme, record))


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--theme", metavar="NAME", help="Begin with this theme.")
def replay(file: Path, theme: str | None) -> None:
    """Play a record that --record made, in the same screens."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("A replay needs a terminal. For a page or tables there is `pagewise report`.")
    from pagewise.commands.replay import run

    run(file, theme)


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page to write; the default is FILE with .html.")
@click.option("--csv", metavar="FOLDER", type=click.Path(path_type=Path), help="Write tables as CSV too.")
def report(file: Path, out: Path | None, csv: Path | None) -> None:
    """Make one HTML page of a record, with plots: nothing else is needed to read it."""
    from pagewise.commands.report import run

    for line in run(file, out, csv):
        click.echo(line)


@group.command(hidden=True)
def host() -> None:
    """Run the host on standard input and output."""
    from pagewise.host.main import main as run

    run()


@group.command(hidden=True)
def engine() -> None:
    """Run an engine on standard input and output."""
    from pagewise.engine.main import main as run

    run()


def main() -> None:
    """The entry of ``pagewise``. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        status = group.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except Exception as error:
        failure = _failure(error)
        if failure is None:
            raise
        from pagewise.commands.problem import report

        report(failure)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _failure(error: Exception) -> Failure | None:
    """What an error that a person can meet says to them; None for any other."""
    failure = getattr(error, "failure", None)
    if isinstance(failure, Failure):
        return failure
    what, why, next = (getattr(error, name, None) for name in ("what", "why", "next"))
    if isinstance(what, str) and isinstance(why, str) and isinstance(next, str):
        return Failure(what, why, next)
    return None

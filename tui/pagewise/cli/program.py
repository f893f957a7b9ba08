"""The program's command line: the chat without a command, `ask`, and every other command by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pagewise import __version__
from pagewise.cli import measuring, models, profiles, watching
from pagewise.cli.options import overrides_option, record_option
from pagewise.messages import Failure

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(invoke_without_command=True, context_settings=_SETTINGS)
@click.option("--continue", "continue_last", is_flag=True, help="Open the last conversation.")
@click.option("--profile", metavar="NAME", help="Begin with this profile; the default is the last one used.")
@click.option("--model", metavar="FILE", help="Begin with this GGUF file.")
@overrides_option
@click.option("--theme", metavar="NAME", help="Begin with this theme.")
@record_option
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
@overrides_option
@click.option("--max-tokens", type=click.IntRange(1, 16_777_216), help="End the answer after so many tokens.")
@click.option("--json", is_flag=True, help="One JSON object: the text with its counts and times.")
@record_option
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


for command in (
    watching.doctor,
    watching.monitor,
    watching.replay,
    watching.report,
    models.inspect,
    models.models,
    models.pull,
    models.quantize,
    models.compare,
    profiles.profiles,
    profiles.plan,
    profiles.export_profile,
    profiles.import_profile,
    measuring.bench,
    measuring.tune,
):
    group.add_command(command)


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

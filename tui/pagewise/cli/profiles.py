"""Commands about profiles: which there are, what one takes, and to and from other programs."""

from __future__ import annotations

import click

from pagewise.cli.options import overrides_option


@click.command()
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


@click.command()
@click.argument("profile", required=False)
@click.option("--model", metavar="FILE", help="Plan for this GGUF file.")
@overrides_option
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def plan(
    context: click.Context, profile: str | None, model: str | None, overrides: tuple[str, ...], json: bool
) -> None:
    """What PROFILE will take of RAM and of each GPU, and whether it fits.

    Nothing is loaded. Exit status: 0 it fits, 1 it does not, or cannot be planned.
    """
    from pagewise.commands import plan as command
    from pagewise.profiles.files import resolve

    context.exit(command.run(resolve(profile, overrides, model), json))


@click.command(name="export")
@click.argument("profile")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["llama-server", "ollama", "llama-swap", "router-ini"]),
    help="The program that is to run it.",
)
@click.option("--model", metavar="FILE", help="Another GGUF file.")
@overrides_option
def export_profile(profile: str, to: str, model: str | None, overrides: tuple[str, ...]) -> None:
    """A profile as another program has it.

    Flags of llama-server, a Modelfile, the YAML of llama-swap, or a preset of llama-server's router. What it cannot
    say stands in comments.
    """
    from pagewise.commands import export as command
    from pagewise.profiles.files import resolve

    click.echo(command.run(resolve(profile, overrides, model), to), nl=False)


@click.command(name="import", context_settings={"ignore_unknown_options": True})
@click.argument("command_line", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="How to call the profile; the default is the model file's name.")
def import_profile(command_line: tuple[str, ...], name: str | None) -> None:
    """Make a profile of a llama-server command line.

    COMMAND_LINE is one text in quotes: "llama-server -m model.gguf -ngl 20". What has no place in a profile is listed.
    """
    from pagewise.commands import export as command

    click.echo(command.take(command_line, name))

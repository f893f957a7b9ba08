"""The command line: parses, then hands on. Each command's own modules are imported when it runs, and not before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

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


def _numbers(context: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        numbers = (-1,)
    if any(not 0 <= number <= 16_777_216 for number in numbers):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 128,512.", context, param)
    return numbers


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

    if once and (listen is not None or count is not None):
        raise click.UsageError("--once prints one table and ends: it takes neither --listen nor --count.")
    if count is not None and not (json or listen is not None):
        raise click.UsageError("--count is for --json and --listen.")
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


@group.command()
@click.argument("profiles", metavar="[PROFILE]...", nargs=-1)
@click.option("--model", metavar="FILE", help="Measure this GGUF file.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of each profile.")
@click.option(
    "-p",
    "--prompt",
    "prompts",
    callback=_numbers,
    metavar="N,…",
    default="512",
    show_default=True,
    help="Prompt lengths.",
)
@click.option(
    "-n",
    "--output",
    "outputs",
    callback=_numbers,
    metavar="N,…",
    default="128",
    show_default=True,
    help="Output lengths.",
)
@click.option(
    "-d",
    "--depth",
    "depths",
    callback=_numbers,
    metavar="N,…",
    default="0",
    show_default=True,
    help="Tokens before them.",
)
@click.option("-r", "--repetitions", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--cold", is_flag=True, help="Also the time from disk to the first token, nothing of the file in RAM.")
@click.option("--json", "format", flag_value="json", help="Records with llama-bench's field names.")
@click.option("--markdown", "format", flag_value="markdown", help="A table for a forum or an issue.")
@click.option("--csv", "format", flag_value="csv", help="The records as CSV.")
@click.pass_context
def bench(
    context: click.Context,
    profiles: tuple[str, ...],
    model: str | None,
    overrides: tuple[str, ...],
    prompts: tuple[int, ...],
    outputs: tuple[int, ...],
    depths: tuple[int, ...],
    repetitions: int,
    cold: bool,
    format: Literal["json", "markdown", "csv"] | None,
) -> None:
    """Measure prefill, decode, TTFT and TPOT of profiles, side by side.

    Each length and depth may be a list: -p 128,512 -d 0,4096. Without a PROFILE the guide is measured.
    """
    from pagewise.commands import bench as command
    from pagewise.profiles.files import resolve

    chosen = tuple(resolve(name, overrides, model) for name in profiles or (None,))
    context.exit(command.run(chosen, prompts, outputs, depths, repetitions, cold, format or "table"))


@group.command()
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.option(
    "--sort", type=click.Choice(["name", "size", "date"]), default="name", show_default=True, help="What comes first."
)
@click.option("--filter", "words", metavar="TEXT", default="", help="Only those that hold all these words.")
@click.option("--fits", is_flag=True, help="Only those that fit into the memory that is free now.")
@click.pass_context
def models(context: click.Context, json: bool, sort: Literal["name", "size", "date"], words: str, fits: bool) -> None:
    """The models that are on this machine already.

    From the caches of Hugging Face, llama.cpp, Ollama, LM Studio, Jan, GPT4All, and your own folders.
    """
    from pagewise.commands import models as command

    context.exit(command.run(sort, words, fits, json))


@group.command()
@click.argument("profile", required=False)
@click.option("--model", metavar="FILE", help="Plan for this GGUF file.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the profile; repeatable."
)
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


@group.command()
@click.argument("repository", metavar="ORG/REPO[:QUANT]")
@click.option("--list", "list_only", is_flag=True, help="Only say what there is.")
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def pull(context: click.Context, repository: str, list_only: bool, json: bool) -> None:
    """Fetch a model from the hub.

    Without QUANT the repository's files are listed, with their sizes and what fits here. A fetch that was broken off
    goes on where it was; files go into the cache that other tools share.
    """
    from pagewise.commands import pull as command

    context.exit(command.run(repository, list_only, json))


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("level")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; the default is beside FILE.")
@click.option("--imatrix", metavar="FILE", type=click.Path(path_type=Path), help="An importance matrix for this model.")
@click.option("--dry-run", is_flag=True, help="Write nothing: say what it would weigh and cost.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="The default is one for each physical core.")
@click.option("--allow-requantize", is_flag=True, help="Begin even from a coarse level, which passes its error on.")
@click.option("--pure", is_flag=True, help="One type for all matrices, without llama.cpp's mix.")
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def quantize(
    context: click.Context,
    file: Path,
    level: str,
    out: Path | None,
    imatrix: Path | None,
    dry_run: bool,
    threads: int,
    allow_requantize: bool,
    pure: bool,
    json: bool,
) -> None:
    """Make another quant level of the GGUF model FILE, such as Q4_K_M.

    It appears only when it is whole; stopped or failed, nothing is left.
    """
    from pagewise.commands import quantize as command
    from pagewise.jobs.quantize import Quantize

    request = Quantize(
        id=0,
        source=str(file.absolute()),
        level=level,
        target=str(out.absolute()) if out is not None else "",
        imatrix=str(imatrix.absolute()) if imatrix is not None else "",
        dry_run=dry_run,
        threads=threads,
        allow_requantize=allow_requantize,
        pure=pure,
    )
    context.exit(command.run(request, json))


@group.command(name="export")
@click.argument("profile")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["llama-server", "ollama", "llama-swap", "router-ini"]),
    help="The program that is to run it.",
)
@click.option("--model", metavar="FILE", help="Another GGUF file.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the profile; repeatable."
)
def export_profile(profile: str, to: str, model: str | None, overrides: tuple[str, ...]) -> None:
    """A profile as another program has it.

    Flags of llama-server, a Modelfile, the YAML of llama-swap, or a preset of llama-server's router. What it cannot
    say stands in comments.
    """
    from pagewise.commands import export as command
    from pagewise.profiles.files import resolve

    click.echo(command.run(resolve(profile, overrides, model), to), nl=False)


@group.command(name="import", context_settings={"ignore_unknown_options": True})
@click.argument("command_line", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="How to call the profile; the default is the model file's name.")
def import_profile(command_line: tuple[str, ...], name: str | None) -> None:
    """Make a profile of a llama-server command line.

    COMMAND_LINE is one text in quotes: "llama-server -m model.gguf -ngl 20". What has no place in a profile is listed.
    """
    from pagewise.commands import export as command

    click.echo(command.take(command_line, name))


@group.command()
@click.argument("models", metavar="A B…", nargs=-1, required=True)
@click.option("--text", metavar="FILE", type=click.Path(path_type=Path), help="A text, for perplexity and divergence.")
@click.option("--prompt", metavar="TEXT", help="What all of them are to answer.")
@click.option("--ctx", type=click.IntRange(8, 1_048_576), default=512, show_default=True, help="Tokens of a chunk.")
@click.option("--chunks", type=click.IntRange(0), default=0, help="So many chunks; the default is all of the text.")
@click.option("--max-tokens", type=click.IntRange(1, 100_000), default=120, show_default=True, help="Of an answer.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of each; repeatable.")
@click.option("--json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def compare(
    context: click.Context,
    models: tuple[str, ...],
    text: Path | None,
    prompt: str | None,
    ctx: int,
    chunks: int,
    max_tokens: int,
    overrides: tuple[str, ...],
    json: bool,
) -> None:
    """Models side by side: size, speed, memory, quality, answers.

    A B … are profiles or GGUF files; A is the reference. One is loaded at a time.
    """
    from pagewise.commands import compare as command
    from pagewise.profiles.files import resolve

    profiles = tuple(resolve(name, overrides, model) for name, model in map(command.named, models))
    context.exit(command.run(command.request_for(profiles, text, prompt, ctx, chunks, max_tokens), json))


@group.command()
@click.argument("profile", required=False)
@click.option("--model", metavar="FILE", help="Tune this GGUF file.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the profile; repeatable."
)
@click.option(
    "--for",
    "goal",
    type=click.Choice(["chat", "long-prompts", "batch"]),
    default="chat",
    show_default=True,
    help="Time of a token, time to the first one, or time of whole answers.",
)
@click.option(
    "--depth", type=click.IntRange(0, 16_777_216), help="Tokens before it; for a chat by default what yours have."
)
@click.option("--prompt", type=click.IntRange(1, 16_777_216), help="Tokens of a message: 256, long 2048, batch 512.")
@click.option("--output", type=click.IntRange(8, 16_777_216), help="Tokens of a reply: 64, long 8, batch 128.")
@click.option("--ctx", type=click.IntRange(16, 16_777_216), metavar="TOKENS", help="The context that must fit.")
@click.option("--ttft", type=click.FloatRange(0.001), metavar="SECONDS", help="The first token must come within this.")
@click.option(
    "--leave",
    metavar="[DEVICE=]SIZE",
    multiple=True,
    help="Leave so much free on each device and in RAM, such as 2GiB, or on one: CUDA0=2GiB; repeatable.",
)
@click.option(
    "--max-kl",
    type=click.FloatRange(0.0, min_open=True),
    metavar="X",
    help="Least quality: the highest KL divergence, measured, of smaller KV types (then tried) and quants.",
)
@click.option("--kv-types", is_flag=True, help="Try smaller KV types, up to a KL divergence of 0.01.")
@click.option("--quants", metavar="A,B", help="Other quants that may be taken: levels such as Q4_K_M, files, profiles.")
@click.option("--text", metavar="FILE", help="Measure KL divergence on this text.")
@click.option("--fix", "fixed", metavar="KEY", multiple=True, help="Leave this key as it is; repeatable.")
@click.option("--trials", type=click.IntRange(1, 1000), default=15, show_default=True)
@click.option("--time", "minutes", type=click.FloatRange(0.01), metavar="MINUTES", help="End after so long.")
@click.option("--fresh", is_flag=True, help="Do not begin from what earlier tunes found.")
@click.option("--save", "save_as", metavar="NAME", help="Save what was found as a profile.")
@click.option("--plain", is_flag=True, help="One line a trial, also in a terminal.")
@click.option("--json", is_flag=True, help="The result with all its trials as one JSON object.")
@click.pass_context
def tune(
    context: click.Context,
    profile: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    goal: Literal["chat", "long-prompts", "batch"],
    depth: int | None,
    prompt: int | None,
    output: int | None,
    ctx: int | None,
    ttft: float | None,
    leave: tuple[str, ...],
    max_kl: float | None,
    kv_types: bool,
    quants: str | None,
    text: str | None,
    fixed: tuple[str, ...],
    trials: int,
    minutes: float | None,
    fresh: bool,
    save_as: str | None,
    plain: bool,
    json: bool,
) -> None:
    """Find the settings and the placement that suit this machine and this model."""
    from pagewise.commands import tune as command
    from pagewise.commands.tune_aim import Options, wanted
    from pagewise.profiles.files import resolve

    options = Options(goal, prompt, output, depth, ctx, ttft, leave, kv_types, max_kl, text, quants, fixed)
    asked = wanted(resolve(profile, overrides, model), options)
    limits = command.Limits(fixed, trials, None if minutes is None else 60 * minutes, fresh)
    if not (plain or json or save_as) and command.has_screen():
        context.exit(command.full_screen(asked, limits))
    context.exit(command.run(asked, limits, save_as, json))


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

"""Commands that measure: bench and tune."""

from __future__ import annotations

from typing import Literal

import click

from pagewise.cli.options import overrides_option


def _numbers(context: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        numbers = (-1,)
    if any(not 0 <= number <= 16_777_216 for number in numbers):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 128,512.", context, param)
    return numbers


@click.command()
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


@click.command()
@click.argument("profile", required=False)
@click.option("--model", metavar="FILE", help="Tune this GGUF file.")
@overrides_option
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

"""Commands about model files: what there is and what is in it, fetching, quantizing, comparing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", is_flag=True, help="The same as one JSON object.")
def inspect(file: Path, json: bool) -> None:
    """What a GGUF file holds.

    Architecture, quant mix, layers with their bytes, KV cache, context length.
    """
    from pagewise.commands import inspect as command

    click.echo(command.run(file, json))


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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

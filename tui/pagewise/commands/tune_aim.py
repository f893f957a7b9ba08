"""What the options of ``pagewise tune`` say together, and where they contradict each other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pagewise.app.visible import visible_line
from pagewise.failure import Failure
from pagewise.guide.files import GuideError, guide_path
from pagewise.history.depths import usual_depth
from pagewise.jobs.tune import TUNED, Aim, Goal, QuantWish
from pagewise.models.gguf import GgufError, printable, read_header
from pagewise.models.level_names import LevelError, level_named
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.files import resolve
from pagewise.settings import MemoryBytes, Profile, memory_bytes

_DEPTH = 1024
_USUAL: dict[Goal, tuple[int, int]] = {"chat": (256, 64), "long-prompts": (2048, 8), "batch": (512, 128)}
"""Tokens of a message and of a reply."""
_KV = ("cache_type_k", "cache_type_v")


class TuneError(Exception):
    """The options cannot be followed."""

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(what)
        self.failure = Failure(what, why, next)


class Options(NamedTuple):
    """As they were given; None: not."""

    goal: Goal = "chat"
    prompt: int | None = None
    output: int | None = None
    depth: int | None = None
    ctx: int | None = None
    ttft_s: float | None = None
    leave: tuple[str, ...] = ()
    kv_types: bool = False
    max_kl: float | None = None
    text: str | None = None
    quants: str | None = None
    fixed: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """What is asked of the tuner."""

    profile: Profile
    aim: Aim
    quants: tuple[QuantWish, ...]


def wanted(profile: Profile, options: Options, history: Path | None = None) -> Wanted:
    """``history``: of conversations; None: the user's own. Raises TuneError."""
    _check_keys(options.fixed)
    if options.ctx is not None:
        profile = msgspec.structs.replace(profile, n_ctx=options.ctx)
    quants = wishes(options.quants, profile) if options.quants is not None else ()
    _check_together(profile, options)
    everywhere, on = _leave(options.leave)
    usual_prompt, usual_output = _USUAL[options.goal]
    output = options.output or usual_output
    prompt = options.prompt or max(1, _within(usual_prompt, profile.n_ctx, output))
    depth, source = _depth(profile, options, prompt, output, history)
    aim = Aim(
        goal=options.goal,
        n_prompt=prompt,
        n_output=output,
        depth=depth,
        ttft_bound_ms=None if options.ttft_s is None else 1000 * options.ttft_s,
        leave_free_bytes=everywhere,
        leave_free_on=on,
        kv_types=options.kv_types,
        max_kl=options.max_kl,
        text=str(Path(options.text).expanduser().absolute()) if options.text else "",
        depth_from=source,
    )
    if options.ctx is not None and (needed := depth + prompt + output + 1) > options.ctx:
        said = [f"--{name} {value:,}" for name, value in _given(options) if name != "ctx"]
        raise TuneError(
            f"--ctx {options.ctx:,} and {' and '.join(said) or 'what is measured'} contradict each other",
            f"{depth:,} tokens of depth, {prompt:,} of prompt and {output:,} of output need room for {needed:,}.",
            f"Say --ctx {needed} or more, or measure less.",
        )
    return Wanted(profile, aim, quants)


def wishes(text: str, tuned: Profile) -> tuple[QuantWish, ...]:
    """``Q8_0,Q4_K_M``: quant levels, files and profiles, for the model of ``tuned``. Raises TuneError."""
    return tuple(_wish(part.strip(), tuned) for part in text.split(",") if part.strip())


def _wish(text: str, tuned: Profile) -> QuantWish:
    if "/" in text or text.endswith(".gguf"):
        return QuantWish(model=str(Path(text).expanduser().absolute()))
    try:
        return QuantWish(level_named(text))
    except LevelError as error:
        try:
            profile = resolve(text, (), None)
        except ProfileError:
            raise TuneError(error.failure.what, error.failure.why, error.failure.next) from error
    if profile.model == "guide":
        if tuned.model != "guide":
            raise TuneError(
                f"--quants {visible_line(text)} is a profile of the guide, which is another model",
                "Only quants of one model are compared: their layers, their width and their architecture are the same.",
                "`pagewise bench` and `pagewise compare` put different models side by side.",
            )
        return QuantWish(profile.quant or "F16")
    return QuantWish(profile.quant, str(Path(profile.model).expanduser().absolute()))


def _check_keys(fixed: Sequence[str]) -> None:
    for key in fixed:
        if key not in Profile.__struct_fields__:
            near = difflib.get_close_matches(key, Profile.__struct_fields__, 3)
            raise TuneError(
                f"--fix {visible_line(key)}: no profile has such a key",
                f"Near to it: {', '.join(near)}." if near else "None is near to it.",
                "`pagewise profiles --keys` lists them all.",
            )


def _check_together(profile: Profile, options: Options) -> None:
    """Raises TuneError that names both sides of a contradiction."""
    fixed = set(options.fixed)
    asks_kv = "--kv-types" if options.kv_types else f"--max-kl {options.max_kl:g}" if options.max_kl is not None else ""
    held = [key for key in _KV if key in fixed]
    if options.goal == "long-prompts" and options.ttft_s is not None:
        raise TuneError(
            "--for long-prompts and --ttft contradict each other",
            "The time to the first token is what is made as short as it can be: a bound on it says nothing.",
            "Leave one of the two out.",
        )
    if options.quants is not None and (files := [key for key in ("model", "quant") if key in fixed]):
        raise TuneError(
            f"--quants and --fix {files[0]} contradict each other",
            "Another quant is another file, and the file is to stay.",
            "Leave one of the two out.",
        )
    if asks_kv and held and (options.kv_types or options.quants is None):
        raise TuneError(
            f"{asks_kv} and --fix {held[0]} contradict each other",
            "The types of the KV cache are to be tried, and to stay as they are.",
            "Leave one of the two out.",
        )
    if options.kv_types and "flash_attention" in fixed and profile.flash_attention == "off":
        raise TuneError(
            "--kv-types and --fix flash_attention (off) contradict each other",
            "A KV cache of a smaller type needs flash attention for its values.",
            "Leave one of the two out, or set flash_attention=on.",
        )
    if options.text is not None and not asks_kv and options.quants is None:
        raise TuneError(
            "--text has nothing to measure",
            "Quality is measured of smaller KV types and of other quants, and neither may be tried.",
            "Add --max-kl, --kv-types or --quants, or leave --text out.",
        )
    if fixed >= TUNED:
        raise TuneError("There is nothing to tune", "All keys that may be changed are fixed.", "Fix fewer of them.")


def _leave(sizes: Sequence[str]) -> tuple[int, tuple[tuple[str, int], ...]]:
    """``2GiB`` for all, ``CUDA0=2GiB`` for one."""
    everywhere, on = 0, []
    for text in sizes:
        device, equals, size = text.rpartition("=")
        try:
            bytes = memory_bytes(msgspec.convert(size, MemoryBytes))
        except msgspec.ValidationError as error:
            raise TuneError(
                f"--leave {visible_line(text)} is not a size",
                "It has to be such as 2GiB or 800MiB, or for one device CUDA0=2GiB or RAM=4GiB.",
                "Say it so.",
            ) from error
        if equals:
            on.append((device, bytes))
        else:
            everywhere = bytes
    return everywhere, tuple(on)


def _depth(profile: Profile, options: Options, prompt: int, output: int, history: Path | None) -> tuple[int, str]:
    """The depth, and where it comes from."""
    if options.depth is not None:
        return options.depth, ""
    if options.goal != "chat":
        return 0, "each begins with an empty context; --depth says otherwise"
    name = _name_of(profile)
    usual = usual_depth(name, history) if name else None
    if usual is None:
        tokens, source = _DEPTH, "there is no reply of this model yet to go by; --depth says otherwise"
    else:
        replies = "the last reply" if usual.replies == 1 else f"the last {usual.replies} replies"
        tokens, source = usual.tokens, f"the median of {replies} of this model; --depth says otherwise"
    room = _within(tokens, profile.n_ctx, prompt + output)
    return (room, f"as much as a context of {profile.n_ctx:,} holds beside it") if room < tokens else (tokens, source)


def _within(tokens: int, n_ctx: int, beside: int) -> int:
    """So many, or as many as the context has room for."""
    return tokens if n_ctx == 0 else max(0, min(tokens, n_ctx - beside - 1))


def _name_of(profile: Profile) -> str:
    """As conversations name the model; empty where its file cannot be read here."""
    try:
        path = guide_path() if profile.model == "guide" else Path(profile.model).expanduser()
        header = read_header(path)
    except (GgufError, GuideError):
        return ""
    return visible_line(printable(header.text("general.name") or path.stem))


def _given(options: Options) -> list[tuple[str, int]]:
    named = (("depth", options.depth), ("prompt", options.prompt), ("output", options.output), ("ctx", options.ctx))
    return [(name, value) for name, value in named if value is not None]

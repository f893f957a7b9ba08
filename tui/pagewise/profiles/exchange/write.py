"""A profile in the form of another program: a command line, a Modelfile, YAML, INI. What is lost stands in comments."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

import msgspec

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.exchange.options import Option, Said, options, unsaid, value_at
from pagewise.profiles.fields import default_of
from pagewise.profiles.schema import shown
from pagewise.settings import Profile


def export(profile: Profile, to: str, model: str) -> str:
    """The profile for the program ``to``, one of TARGETS. ``model`` is its file's path there. Raises ProfileError."""
    if any(not letter.isprintable() for letter in model):
        raise _not_written(f"The path of the model, {shown(model, 200)!r}, has characters that no configuration takes.")
    return TARGETS[to](profile, model)


def _llama_server(profile: Profile, model: str) -> str:
    said = options(profile, model)
    words = [_words(option) for option in said.options]
    return "\n".join([*_comments(profile, said.remarks), " \\\n  ".join(["llama-server", *words]), ""])


def _llama_swap(profile: Profile, model: str) -> str:
    said = options(profile, model)
    if "${" in model:
        raise _not_written("llama-swap takes ${…} in the path of the model for one of its macros.")
    kept, remarks = _without(said, lambda option: "${" in (option.value or ""), "llama-swap takes ${…} for a macro")
    lines = [*_comments(profile, remarks), "models:", f"  {_quoted(profile.name)}:"]
    if profile.description:
        lines.append(f"    description: {_quoted(profile.description)}")
    if profile.idle_unload_s is not None:
        lines.append(f"    ttl: {int(profile.idle_unload_s)}")
    lines += ["    cmd: |", "      llama-server --port ${PORT}"]
    lines += [f"      {_words(option)}" for option in kept if option.key != "idle_unload"]
    return "\n".join([*lines, ""])


def _router_ini(profile: Profile, model: str) -> str:
    said = options(profile, model)
    if not _plain(model):
        raise _not_written("A preset of llama-server's router takes ; and # in the path of the model for a comment.")
    kept, remarks = _without(
        said, lambda option: not _plain(option.value or ""), "a preset has no way to write ; or #, or blanks at an end"
    )
    lines, seen = [], set()
    for option in kept:
        if option.name in seen:
            remarks.append(f"{option.key} = {shown(option.value or '', 120)}: a preset has room for one only")
            continue
        seen.add(option.name)
        name = option.name.removeprefix("--")
        if name == "no-repack":
            lines.append("repack = false")
        else:
            lines.append(f"{name} = {'true' if option.value is None else option.value}")
    head = [*_comments(profile, remarks, "; "), "version = 1", "", f"[{profile.name}]"]
    return "\n".join([*head, *lines, ""])


def _plain(value: str) -> bool:
    return value == value.strip() and not any(letter in value for letter in ";#\n\r")


_OLLAMA = {
    "n_ctx": "num_ctx",
    "n_batch": "num_batch",
    "main_gpu": "main_gpu",
    "threads": "num_thread",
    "sampling.temperature": "temperature",
    "sampling.top_k": "top_k",
    "sampling.top_p": "top_p",
    "sampling.min_p": "min_p",
    "sampling.repeat_penalty": "repeat_penalty",
    "sampling.repeat_last_n": "repeat_last_n",
    "sampling.seed": "seed",
    "sampling.max_tokens": "num_predict",
}
_ALWAYS = frozenset({"n_ctx", *(key for key in _OLLAMA if key.startswith("sampling."))})
"""Ollama's own defaults of these are others."""
_ALL_LAYERS = 999
_WHY_OLLAMA = {
    "flash_attention": "set OLLAMA_FLASH_ATTENTION=1 where the server runs",
    "cache_type_k": "set OLLAMA_KV_CACHE_TYPE where the server runs; it is for keys and values alike",
    "cache_type_v": "set OLLAMA_KV_CACHE_TYPE where the server runs; it is for keys and values alike",
    "idle_unload": "ollama has it in each request (keep_alive), or as OLLAMA_KEEP_ALIVE where the server runs",
    "load_mode": "a Modelfile can only turn mapping on or off (use_mmap)",
}


def _ollama(profile: Profile, model: str) -> str:
    said = {*_OLLAMA, "model", "n_gpu_layers", "system_prompt", "sampling.stop", "lora"}
    lines, remarks = [f"FROM {model}"], []
    for key, name in _OLLAMA.items():
        value = value_at(profile, key)
        if key == "n_ctx" and value == 0:
            remarks.append("n_ctx = 0: ollama has no word for the model's own length; give num_ctx a number")
        elif value is not None and (key in _ALWAYS or value != default_of(key)):
            lines.append(f"PARAMETER {name} {value}")
    if profile.n_gpu_layers != "fit":
        layers = _ALL_LAYERS if profile.n_gpu_layers == "all" else profile.n_gpu_layers
        lines.append(f"PARAMETER num_gpu {layers}")
    if profile.load_mode in ("mmap", "none"):
        said.add("load_mode")
        lines.append(f"PARAMETER use_mmap {'true' if profile.load_mode == 'mmap' else 'false'}")
    for stop in profile.sampling.stop:
        _add(lines, remarks, "PARAMETER stop", stop, "sampling.stop")
    for adapter in profile.lora:
        if adapter.scale == 1.0:
            _add(lines, remarks, "ADAPTER", adapter.path, "lora")
        else:
            remarks.append(f"lora: {shown(adapter.path, 120)}: a Modelfile has no scale")
    if profile.system_prompt:
        _add(lines, remarks, "SYSTEM", profile.system_prompt, "system_prompt")
    remarks += unsaid(profile, frozenset(said), _WHY_OLLAMA, "ollama")
    return "\n".join([*_comments(profile, remarks), *lines, ""])


def _add(lines: list[str], remarks: list[str], command: str, text: str, key: str) -> None:
    """A text in three quotes, as a Modelfile has those that may hold anything but three quotes."""
    unseen = any(not letter.isprintable() and letter not in "\n\t" for letter in text)
    if '"""' in text or unseen:
        why = (
            "a Modelfile cannot hold control characters" if unseen else 'a Modelfile has no way to write """ in a text'
        )
        remarks.append(f"{key} = {shown(text, 120)}: {why}")
    else:
        lines.append(f'{command} """{text}"""')


TARGETS: dict[str, Callable[[Profile, str], str]] = {
    "llama-server": _llama_server,
    "ollama": _ollama,
    "llama-swap": _llama_swap,
    "router-ini": _router_ini,
}
"""Each program that can be exported to, and what writes its form."""


def _words(option: Option) -> str:
    return option.name if option.value is None else f"{option.name} {shlex.quote(option.value)}"


def _without(said: Said, loses: Callable[[Option], bool], why: str) -> tuple[list[Option], list[str]]:
    kept = [option for option in said.options if not loses(option)]
    lost = [f"{option.key} = {shown(option.value or '', 120)}: {why}" for option in said.options if loses(option)]
    return kept, [*said.remarks, *lost]


def _comments(profile: Profile, remarks: Iterable[str], mark: str = "# ") -> list[str]:
    lines = [f"{mark}The profile {profile.name} of pagewise."]
    if profile.description:
        lines.append(f"{mark}{shown(profile.description, 200)}")
    lost = list(remarks)
    if lost:
        lines.append(f"{mark}Not expressed here:")
        lines += [f"{mark}  {shown(remark, 400)}" for remark in lost]
    return lines


def _quoted(text: str) -> str:
    # A JSON text is a YAML text too.
    return msgspec.json.encode(text).decode("utf-8").replace("\x7f", "\\u007f")


def _not_written(why: str) -> ProfileError:
    return ProfileError(Failure("The profile cannot be exported", why, "Move or link the model file to another path."))

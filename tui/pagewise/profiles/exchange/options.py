"""A profile as options of llama-server, and what it says that they cannot say."""

from __future__ import annotations

from typing import Any, NamedTuple

from pagewise.profiles.draft import text_of
from pagewise.profiles.exchange.flags import BY_KEY, LOAD_MODES, escaped
from pagewise.profiles.fields import as_in_file, default_of, fields
from pagewise.profiles.schema import shown
from pagewise.settings import Profile

_ELSEWHERE = frozenset({"description", "quant", "fit_margin"})
"""Keys that are written in another way than by an option of their own."""
_SAME_DEFAULT_WRITTEN = frozenset({"model", "n_gpu_layers", "n_ctx", "sampling.temperature"})
"""Written even where they are a profile's default: llama-server's own default is another."""
_WHY = {
    "placement": "llama-server leaves it to the kernel what stays in memory",
    "keep": "a server holds its model anyway",
    "system_prompt": "llama-server takes it from each request",
    "probe_every": "the layer clock is pagewise's",
}


class Option(NamedTuple):
    """One option with its value; ``value`` None: it stands alone."""

    name: str
    value: str | None
    key: str = ""
    """The profile's key that it says."""


class Said(NamedTuple):
    """What can be said, and of the rest a sentence each."""

    options: tuple[Option, ...]
    remarks: tuple[str, ...]


def value_at(profile: Profile, key: str) -> Any:
    """The value of a dotted key, as a file has it."""
    table, _, inner = key.partition(".")
    return as_in_file(getattr(profile.sampling if inner else profile, inner or table))


def unsaid(profile: Profile, said: frozenset[str], why: dict[str, str], program: str) -> list[str]:
    """A sentence for each key that differs from its default and is not among ``said``."""
    remarks = []
    for field in fields():
        value = value_at(profile, field.key)
        if field.key not in said and field.key not in _ELSEWHERE and value != default_of(field.key):
            reason = why.get(field.key, f"{program} has no such setting")
            remarks.append(f"{field.key} = {shown(text_of(value), 120)}: {reason}")
    return remarks


def options(profile: Profile, model: str) -> Said:
    """``model`` is the path that the profile's model has where the server runs."""
    written: list[Option] = []
    remarks: list[str] = []
    for key, flag in BY_KEY.items():
        value = value_at(profile, key)
        if key == "model":
            value = model
        if value == default_of(key) and key not in _SAME_DEFAULT_WRITTEN:
            continue
        if key == "tensor_overrides":
            value, more = _overrides(value)
            remarks += more
        elif key == "sampling.stop":
            written += [Option(flag.name, escaped(text), key) for text in value]
            continue
        elif key == "lora":
            value, more = _adapters(value)
            remarks += more
        elif key == "n_gpu_layers":
            value = "auto" if value == "fit" else value
        elif key == "load_mode":
            value = LOAD_MODES[value]
        elif key == "idle_unload":
            value = int(profile.idle_unload_s or 0)
        elif key == "tensor_split":
            value = ",".join(map(str, value))
        if value != "":
            written.append(Option(flag.name, str(value), key))
    written += _switches(profile)
    said = frozenset(BY_KEY) | {"repack", "swa_full"}
    return Said(tuple(written), (*remarks, *unsaid(profile, said, _WHY, "llama-server")))


def _switches(profile: Profile) -> list[Option]:
    switches = [Option("--swa-full", None, "swa_full")] if profile.swa_full else []
    # "auto" is off here, and on there: the weights would stand in memory twice.
    switches.append(Option("--repack" if profile.repack == "on" else "--no-repack", None, "repack"))
    if profile.n_gpu_layers == "fit":
        switches += [Option("--fit", "on"), Option("--fit-target", str(_mib(profile.fit_margin)), "fit_margin")]
    else:
        switches.append(Option("--fit", "off"))
    return [*switches, Option("--parallel", "1")]


def _mib(amount: str) -> int:
    return round(float(amount[:-3]) * (1024 if amount.endswith("GiB") else 1))


def _overrides(entries: list[str]) -> tuple[str, list[str]]:
    kept = [entry for entry in entries if "," not in entry and entry.count("=") == 1]
    remarks = [
        f"tensor_overrides: {shown(entry, 120)}: --override-tensor has no way to write a comma or a second = in it"
        for entry in entries
        if entry not in kept
    ]
    return ",".join(kept), remarks


def _adapters(entries: list[dict[str, Any]]) -> tuple[str, list[str]]:
    kept, remarks = [], []
    for entry in entries:
        path = str(entry["path"])
        if ":" in path or '"' in path:
            remarks.append(f"lora: {shown(path, 120)}: --lora-scaled cannot take a path with : or a quote in it")
        else:
            item = f"{path}:{entry.get('scale', 1.0)}"
            kept.append(f'"{item}"' if "," in path else item)
    return ",".join(kept), remarks

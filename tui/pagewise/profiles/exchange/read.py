"""A llama-server command line as a profile, and what of it has no place in one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pagewise.messages import Failure
from pagewise.profiles.errors import ProfileError
from pagewise.profiles.exchange.flags import BY_ENV, BY_NAME, DENSE, EXPERTS, LOAD_MODES, Flag, unescaped
from pagewise.profiles.fields import default_of
from pagewise.profiles.parse import MAX_FILE
from pagewise.profiles.schema import KeyProblem, convert, shown, value_of

PROGRAM = "llama-server"
_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SHELL = frozenset({"&", "&&", "|", ";", ">", ">>", "2>", "2>&1", "<", "||"})
_UNSET: dict[str, Any] = {"n_gpu_layers": "fit", "n_ctx": 0, "sampling.temperature": 0.8}
"""What llama-server does where its command line says nothing, and a profile's default is another."""
_TRUE, _FALSE = ("on", "enabled", "true", "1"), ("off", "disabled", "false", "0")
_BY_LOAD_MODE = {**{theirs: ours for ours, theirs in LOAD_MODES.items()}, "mlock": "mlock"}
_ANY_SEED = ("-1", "4294967295")


class Imported(NamedTuple):
    """The keys of a profile, dotted, and what was not taken over, each as it stood."""

    values: dict[str, Any]
    remarks: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the profile can be called: as its model's file."""
        stem = re.sub(r"[^\w.+ -]", "-", Path(str(self.values["model"])).stem)
        return re.sub(r"^[\W_]+", "", stem)[:60].strip() or "imported"


def read_command_line(text: str, folder: Path | None = None) -> Imported:
    """What ``llama-server -m … -ngl …`` says; paths are taken from ``folder``. Raises ProfileError."""
    if len(text) > MAX_FILE or "\0" in text:
        raise _failure("It is too long for one, or holds characters that no shell takes.")
    try:
        words = shlex.split(text.replace("\\\r\n", " ").replace("\\\n", " "))
    except ValueError as error:
        raise _failure(f"Its quotes do not match: {error}.") from error
    return _Reading(words, folder or Path.cwd()).imported()


class _Reading:
    def __init__(self, words: list[str], folder: Path) -> None:
        self._words = words
        self._folder = folder
        self._values: dict[str, Any] = {}
        self._remarks: list[str] = []
        self._at = 0

    def imported(self) -> Imported:
        self._before_the_program()
        while self._at < len(self._words):
            word = self._words[self._at]
            if word in _SHELL or word.startswith((">", "2>")):
                self._lost(" ".join(self._words[self._at :]), "it is for the shell")
                break
            self._at += 1
            self._option(word)
        if "model" not in self._values:
            raise self._without_model()
        if "repack" not in self._values:
            self._remarks.append("llama-server repacks weights unless it is told not to; here repack stays at auto")
        values = {**_UNSET, **self._values}
        if values.pop("fit", True) is False and "n_gpu_layers" not in self._values:
            values["n_gpu_layers"] = "all"
        kept = {key: value for key, value in values.items() if value != default_of(key)}
        return Imported({"model": values["model"], **kept}, tuple(self._remarks))

    def _without_model(self) -> ProfileError:
        hub = next((remark for remark in self._remarks if remark.startswith(("-hf", "--hf-repo", "-mu "))), None)
        if hub is None:
            why, then = "There is no -m in it.", "Give the path of the GGUF file with -m."
        else:
            why = f"It names a place to get one from ({hub}); a profile names a file."
            then = f"pagewise pull {shlex.quote(hub.split()[-1])}, then give the path of the file with -m."
        return ProfileError(Failure("The command line names no model file", why, then))

    def _before_the_program(self) -> None:
        """Assignments of environment variables count; what else stands before the program does not."""
        names = [Path(word).name for word in self._words]
        start = names.index(PROGRAM) if PROGRAM in names else None
        if start is None:
            options = (index for index, word in enumerate(self._words) if word.startswith("-"))
            start = next(options, len(self._words)) - 1
        before = self._words[: max(start, 0)]
        if 0 <= start < len(names) and names[start] != PROGRAM:
            before.append(self._words[start])
        for word in before:
            name, equals, value = word.partition("=")
            if equals and _ASSIGNED.match(word) and name in BY_ENV:
                self._set(BY_ENV[name], name, value)
            elif word != "env":
                self._lost(word, "" if equals else "it is not llama-server's")
        self._at = max(start + 1, 0)

    def _option(self, word: str) -> None:
        name, equals, attached = word.partition("=") if word.startswith("--") else (word, "", "")
        if name.startswith("--"):
            name = name.replace("_", "-")
        if equals:
            self._words.insert(self._at, attached)
        alone = _ALONE.get(name)
        if alone is not None:
            self._values.update(alone)
        elif name in ("--cpu-moe", "-cmoe"):
            self._add_overrides([EXPERTS])
        elif name in _COUNTED:
            self._add_overrides(_COUNTED[name](self._number(name)))
        elif name in _WITH_VALUE:
            _WITH_VALUE[name](self, self._value(name))
        elif name in ("-fa", "--flash-attn") and not self._is_value():
            self._values["flash_attention"] = "on"
        elif name in BY_NAME:
            self._set(BY_NAME[name], name, self._value(name))
        else:
            rest = [self._value(name)] if self._is_value() else []
            self._lost(" ".join([name, *map(shlex.quote, rest)]))

    # ---- values -----------------------------------------------------------------------------------------------------

    def _is_value(self) -> bool:
        """Whether the next word belongs to the option before it."""
        if self._at >= len(self._words):
            return False
        word = self._words[self._at]
        return (not word.startswith("-") or bool(_NUMBER.fullmatch(word))) and word not in _SHELL

    def _value(self, name: str) -> str:
        if self._at >= len(self._words):
            raise _failure(f"{shown(name)} has no value.")
        self._at += 1
        return self._words[self._at - 1]

    def _number(self, name: str) -> int:
        text = self._value(name)
        if not text.isdecimal() or int(text) > 10_000:
            raise _failure(f"{shown(name)} takes a number of layers, not {shown(text)!r}.")
        return int(text)

    def _set(self, flag: Flag, name: str, text: str) -> None:
        meant = _MEANINGS.get(flag.key, _as_typed)
        try:
            value = meant(flag.key, text)
            if flag.key == "model":
                value = str(self._folder / Path(value).expanduser()) if value else value
            elif flag.key == "sampling.stop":
                value = [*self._values.get(flag.key, []), value]
            elif flag.key == "tensor_overrides":
                value = [*self._values.get(flag.key, []), *value]
            elif flag.key == "lora":
                value = [*self._values.get(flag.key, []), *self._adapters(name, text)]
            if value is not None:
                _check(flag.key, value)
        except (KeyProblem, ValueError, RuntimeError) as problem:
            why = problem.why if isinstance(problem, KeyProblem) else f"{shown(text)!r} is not a value of it"
            raise ProfileError(
                Failure(
                    "The command line cannot be taken over", f"{shown(name)}: {why}.", "Correct it, or leave it out."
                )
            ) from problem
        if flag.key == "threads" and text.lstrip("-").isdecimal() and int(text) <= 0:
            self._remarks.append(f"{name} {text} means every logical core; here threads = 0 is one for each physical")
        self._values[flag.key] = value

    def _adapters(self, name: str, text: str) -> list[dict[str, Any]]:
        adapters = []
        for item in _fields_of(text):
            path, colon, scale = item.rpartition(":") if name == "--lora-scaled" else (item, ":", "1")
            if not colon or not path:
                raise ValueError(text)
            adapters.append({"path": str(self._folder / Path(path).expanduser()), "scale": float(scale)})
        return adapters

    def _add_overrides(self, patterns: list[str]) -> None:
        before = self._values.get("tensor_overrides", [])
        self._values["tensor_overrides"] = [*before, *(f"{pattern}=CPU" for pattern in patterns)]

    def _fit(self, text: str) -> None:
        self._values["fit"] = text not in _FALSE

    def _fit_target(self, text: str) -> None:
        if text.isdecimal() and int(text) < 1_000_000:
            self._values["fit_margin"] = f"{int(text) // 1024}GiB" if int(text) % 1024 == 0 else f"{int(text)}MiB"
        else:
            self._lost(f"--fit-target {text}", "fit_margin is one amount for every device")

    def _device(self, text: str) -> None:
        if text == "none":
            self._values["n_gpu_layers"] = 0
        else:
            self._lost(f"--device {text}", "main_gpu, split_mode and tensor_split say which GPUs are used")

    def _parallel(self, text: str) -> None:
        if text != "1":
            self._lost(f"--parallel {text}", "one conversation is answered at a time")

    def _lost(self, what: str, why: str = "") -> None:
        self._remarks.append(shown(what, 400) + (f": {why}" if why else ""))


def _as_typed(key: str, text: str) -> Any:
    return value_of(key, text)


def _layers(key: str, text: str) -> Any:
    if text in ("auto", "-1"):
        return "fit"
    return "all" if text == "all" or int(text) < 0 else int(text)


def _none_below_zero(key: str, text: str) -> Any:
    return None if int(text) < 0 else int(text)


def _seconds(key: str, text: str) -> Any:
    seconds = int(text)
    if seconds < 0:
        return None
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _on_off(key: str, text: str) -> Any:
    return "on" if text in _TRUE else "off" if text in _FALSE else text


def _check(key: str, value: Any) -> None:
    table, _, inner = key.partition(".")
    convert({"name": "-", table: {inner: value} if inner else value})


def _fields_of(row: str) -> list[str]:
    """A row of CSV, as llama.cpp splits it: quotes hold a field together, two of them are one."""
    fields = re.findall(r'(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))', row)
    return [quoted.replace('""', '"') or bare for quoted, bare in fields]


_MEANINGS: dict[str, Callable[[str, str], Any]] = {
    "model": lambda key, text: text,
    "n_gpu_layers": _layers,
    "tensor_split": lambda key, text: [float(part) for part in re.split("[,/]+", text)],
    "tensor_overrides": lambda key, text: text.split(","),
    "load_mode": lambda key, text: _BY_LOAD_MODE.get(text, text),
    "flash_attention": _on_off,
    "threads": lambda key, text: max(int(text), 0),
    "threads_batch": lambda key, text: max(int(text), 0),
    "idle_unload": _seconds,
    "lora": lambda key, text: [],
    "sampling.temperature": lambda key, text: max(float(text), 0.0),
    "sampling.top_k": lambda key, text: max(int(text), 0),
    "sampling.max_tokens": _none_below_zero,
    "sampling.seed": lambda key, text: None if text in _ANY_SEED else int(text),
    "sampling.stop": lambda key, text: unescaped(text),
}
_ALONE: dict[str, dict[str, Any]] = {
    "--swa-full": {"swa_full": True},
    "--repack": {"repack": "on"},
    "--no-repack": {"repack": "off"},
    "-nr": {"repack": "off"},
    "--mmap": {"load_mode": "mmap"},
    "--no-mmap": {"load_mode": "none"},
    "--mlock": {"load_mode": "mlock"},
    "--direct-io": {"load_mode": "direct"},
    "-dio": {"load_mode": "direct"},
    "--jinja": {},
}
"""Options without a value; those of the load mode are of older versions of llama-server."""
_COUNTED: dict[str, Callable[[int], list[str]]] = {
    "--n-cpu-moe": lambda layers: _first(layers, EXPERTS),
    "-ncmoe": lambda layers: _first(layers, EXPERTS),
    "--n-cpu-ffn": lambda layers: _first(layers, DENSE),
    "-ncffn": lambda layers: _first(layers, DENSE),
}
_WITH_VALUE: dict[str, Callable[[_Reading, str], None]] = {
    "--fit": _Reading._fit,
    "-fit": _Reading._fit,
    "--fit-target": _Reading._fit_target,
    "-fitt": _Reading._fit_target,
    "--device": _Reading._device,
    "-dev": _Reading._device,
    "--parallel": _Reading._parallel,
    "-np": _Reading._parallel,
}


def _first(layers: int, tensors: str) -> list[str]:
    numbers = "|".join(map(str, range(layers)))
    return [rf"blk\.({numbers}){tensors}"] if layers else []


def _failure(why: str) -> ProfileError:
    return ProfileError(
        Failure(
            "The command line cannot be read", why, "Give it as one text, in quotes, as you would type it in a shell."
        )
    )

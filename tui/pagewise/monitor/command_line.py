"""What a process's command line says: which program it is, which model it was given, where it serves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

_MODEL = frozenset({"-m", "--model", "-md", "--model-draft", "-mm", "--mmproj"})
_THREADS = frozenset({"-t", "--threads"})
_NOT_MAPPED = frozenset({"--no-mmap", "--direct-io", "-dio"})
_PYTHON = re.compile(r"^(?:python|pypy)[\d.]*$")
_PROGRAMS = (
    ("ollama", "Ollama"),
    ("lmstudio", "LM Studio"),
    ("lm-studio", "LM Studio"),
    ("lm studio", "LM Studio"),
    ("koboldcpp", "koboldcpp"),
)
_RUNNERS = ("llama", "koboldcpp", "lm studio", "vllm", "sglang", "gguf")
"""Programs that take a model without an option's name before it; for an editor or a copy it is no model."""
OWN = "pagewise"


class CommandLine(NamedTuple):
    """``models``: arguments that name a model file, as they stand there. Nothing here has been checked."""

    program: str
    models: tuple[str, ...]
    host: str
    port: int | None
    threads: int | None
    reads_whole_file: bool
    """It was told not to map the model."""
    is_engine: bool
    """An engine of pagewise."""


def parse_command_line(argv: Sequence[str], executable: str = "") -> CommandLine:
    """What ``argv`` says. ``executable``: the name to fall back on where it is empty."""
    options = list(_options(argv[1:]))
    models = [value for name, value in options if name in _MODEL and value]
    program = _program(argv, executable)
    if any(mark in program.lower() for mark in _RUNNERS):
        models += [argument for argument in argv[1:] if argument.endswith(".gguf") and not argument.startswith("-")]
    return CommandLine(
        program=program,
        models=tuple(dict.fromkeys(models)),
        host=_last(options, {"--host"}),
        port=_number(_last(options, {"--port"}), 65_535),
        threads=_number(_last(options, _THREADS), 4_096),
        reads_whole_file=any(argument in _NOT_MAPPED for argument in argv),
        is_engine=program == OWN and any(word in ("engine", "pagewise.engine") for word in argv[1:4]),
    )


def _options(arguments: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for index, argument in enumerate(arguments):
        name, joined, value = argument.partition("=")
        if not name.startswith("-"):
            continue
        if not joined and index + 1 < len(arguments):
            value = arguments[index + 1]
        found.append((name, value))
    return found


def _program(argv: Sequence[str], executable: str) -> str:
    named = argv[0] if argv and argv[0] else executable
    base = PurePosixPath(named).name
    if _PYTHON.match(base):
        base = _script(argv[1:]) or base
    where = f"{named} {base}".lower()
    for mark, program in _PROGRAMS:
        if mark in where:
            return program
    return base or "unknown"


def _script(arguments: Sequence[str]) -> str:
    """The module or script that a Python runs."""
    for index, argument in enumerate(arguments):
        if argument == "-m":
            module = arguments[index + 1] if index + 1 < len(arguments) else ""
            return OWN if module.split(".")[0] == OWN else module
        if argument == "-c":
            return ""
        if not argument.startswith("-"):
            return PurePosixPath(argument).name.removesuffix(".py")
    return ""


def _last(options: Sequence[tuple[str, str]], names: frozenset[str] | set[str]) -> str:
    values = [value for name, value in options if name in names]
    return values[-1] if values else ""


def _number(text: str, most: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 and 0 < int(text) <= most else None

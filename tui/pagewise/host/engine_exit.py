"""How an engine ended, and what that says to a person."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NamedTuple

from pagewise.messages import Failure
from pagewise.models.gguf import printable
from pagewise.trace import LastSeen

_TAIL = 8192
_ABORT_LINE = re.compile(r"GGML_ASSERT|CUDA error|ggml_abort|out of memory|terminate called|what\(\):|Error: ")
_SHOWN = 300


class EngineExit(NamedTuple):
    """The end of an engine that nobody asked for."""

    signal: int | None
    exit_code: int | None
    out_of_memory: bool
    last_words: str
    """The line of its log that tells most, or an empty string. Printable characters only."""
    at: LastSeen | None = None
    """What it was at, where it could say so."""


def engine_exit(
    return_code: int, oom_kills_before: int | None, oom_kills_after: int | None, last_words: str
) -> EngineExit:
    """From a return code as ``subprocess`` gives it (negative: a signal), and the OOM kills around its life."""
    by_signal = -return_code if return_code < 0 else None
    grew = oom_kills_before is not None and oom_kills_after is not None and oom_kills_after > oom_kills_before
    return EngineExit(
        signal=by_signal,
        exit_code=return_code if return_code >= 0 else None,
        out_of_memory=grew and by_signal == signal.SIGKILL,
        last_words=last_words,
    )


def last_words(log: Path, offset: int) -> str:
    """The line behind ``offset`` of an engine's log that tells most of its end."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(offset, file.tell() - _TAIL))
            text = file.read(_TAIL).decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = ["".join(letter for letter in line if letter.isprintable()).strip() for line in text.splitlines()]
    telling = [line for line in lines if _ABORT_LINE.search(line)]
    return telling[0][:_SHOWN] if telling else ""


def explain(end: EngineExit, doing: str, engine_log: Path) -> Failure:
    """What a person is told. ``doing``: what the engine was at, such as ``while it wrote a reply``."""
    what = f"The engine ended {doing}"
    if end.out_of_memory:
        return Failure(
            what,
            "The system ran out of memory and ended it, since it held the most.",
            "Choose a smaller quant, a shorter context or fewer other programs; see the RAM gauge.",
        )
    words = f' Its last words: "{end.last_words}".' if end.last_words else ""
    if end.signal == signal.SIGKILL:
        return Failure(
            what,
            f"Something ended it from outside (SIGKILL); the system counted no lack of memory.{words}",
            "If nobody did that on purpose, look at the system's log: `dmesg | tail`.",
        )
    if end.signal == signal.SIGBUS and end.at is not None and end.at.model:
        return _unreadable(what, end.at)
    next_step = f"The engine's log is {engine_log}; with the model's name it makes a useful report."
    if end.signal is not None:
        return Failure(what, f"{_signal_words(end.signal)}.{words}", next_step)
    return Failure(what, f"It stopped with exit code {end.exit_code}.{words}", next_step)


def _unreadable(what: str, at: LastSeen) -> Failure:
    name = printable(Path(at.model).name)
    layer = f"layer {at.layer}" if at.layer.isdigit() else f"the {printable(at.layer)}"
    during = f" while {layer} was computed" if at.layer not in ("", "?") else ""
    return Failure(
        what,
        f"A page of {name} could not be read{during} (SIGBUS): the file was cut short, or the disk failed.",
        f"The file is being read now to find the place. It is {printable(at.model)}.",
    )


def _signal_words(number: int) -> str:
    meanings = {
        signal.SIGABRT: "llama.cpp found something that must not be and gave up (SIGABRT)",
        signal.SIGSEGV: "It touched memory that is not its own (SIGSEGV), a fault in llama.cpp or a driver",
        signal.SIGBUS: "A page of the model file could not be read (SIGBUS): the file was cut short or the disk failed",
        signal.SIGILL: "This processor lacks an instruction that llama.cpp was built with (SIGILL)",
        signal.SIGFPE: "An arithmetic fault (SIGFPE) in llama.cpp",
        signal.SIGTERM: "It was asked to end from outside (SIGTERM)",
    }
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"Signal {number} ended it"
    return meanings.get(known, f"Signal {known.name} ended it")

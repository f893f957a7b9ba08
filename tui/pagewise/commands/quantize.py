"""``pagewise quantize``: another quant level of a model, made on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from pagewise.app.figures import size
from pagewise.app.visible import visible_line
from pagewise.commands.job import ask_host
from pagewise.commands.output import as_json
from pagewise.jobs.quantize import Quantize, Quantized

_LABEL = 12


def run(request: Quantize, json: bool) -> int:
    """Make it, or say what it would be; return the exit status. The request's id is of no account."""
    answer = ask_host(lambda id: msgspec.structs.replace(request, id=id), Quantized)
    if isinstance(answer, int):
        return answer
    if json:
        print(as_json(answer))
        return 0
    print("\n".join(lines(answer)))
    for note in answer.notes:
        print(f"! {visible_line(note)}", file=sys.stderr)
    return 0


def lines(answer: Quantized) -> list[str]:
    """What a person reads."""
    share = f", {100 * answer.bytes / answer.source_bytes:.0f} % of it" if answer.source_bytes else ""
    rows = [
        ("source", f"{_short(answer.source)}, {answer.source_level}, {size(answer.source_bytes)}"),
        ("level", f"{answer.level}, {answer.bits_per_weight:.2f} bits per weight"),
        ("size", f"{size(answer.bytes)}{share} ({_types(answer)})"),
        ("error", f"about {100 * answer.error.result:.2g} % of the weights' size (RMS)"),
    ]
    if answer.dry_run:
        free = f", {size(answer.free_bytes)} free there" if answer.free_bytes is not None else ""
        rows.append(("would be", f"{_short(answer.path)}{free}"))
    else:
        rows.append(("made", f"{_short(answer.path)} in {answer.seconds:.1f} s"))
    return [f"{label:<{_LABEL}}{visible_line(value)}" for label, value in rows]


def _types(answer: Quantized) -> str:
    return ", ".join(f"{share.type} {100 * share.bytes / answer.bytes:.0f} %" for share in answer.types[:4])


def _short(path: str) -> str:
    home = str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path

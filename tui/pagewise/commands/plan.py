"""``pagewise plan``: what a profile will take on each device, before anything is loaded."""

from __future__ import annotations

import shutil
import textwrap

from pagewise.app.figures import count, duration, size
from pagewise.app.visible import visible_line
from pagewise.commands.job import FAILED, ask_host
from pagewise.commands.output import as_json
from pagewise.jobs.plan import RAM, Compared, DevicePlan, MakePlan, MemoryPlan, Planned
from pagewise.settings import Profile

_LABEL = 10
_COLUMNS = ("weights", "KV cache", "compute", "driver", "together", "free", "left")
_WIDTH = 10


def run(profile: Profile, json: bool) -> int:
    """Plan, write, and return the exit status: 0 it fits, 1 it does not."""
    answer = ask_host(lambda id: MakePlan(id, profile), Planned)
    if isinstance(answer, int):
        return answer
    plan = answer.plan
    if json:
        print(as_json(plan))
    else:
        print("\n".join(lines(plan, shutil.get_terminal_size().columns)))
    return 0 if plan.fits else FAILED


def lines(plan: MemoryPlan, width: int) -> list[str]:
    """What a person reads."""
    return [
        _row("profile", visible_line(plan.profile.name)),
        _row("model", visible_line(plan.profile.model)),
        _row("layers", f"{plan.offloaded_layers} of {plan.n_layer + 1} on GPUs, context {count(plan.n_ctx)} tokens"),
        "",
        "".join([" " * _LABEL, *(f"{name:>{_WIDTH}}" for name in _COLUMNS)]),
        *(_device(device) for device in plan.devices),
        "",
        _row("weights", _weights(plan)),
        *_said(plan, width),
        *_remembered(plan.last, width),
        _row("planned", f"in {duration(plan.took_ms)}" + (", an estimate" if plan.estimate else "")),
    ]


def _device(device: DevicePlan) -> str:
    left = None if device.free_bytes is None else device.free_bytes - device.needed_bytes
    cells = (
        size(device.weights_bytes),
        size(device.kv_bytes),
        size(device.compute_bytes),
        "–" if device.device == RAM else size(device.driver_bytes),
        size(device.needed_bytes),
        size(device.free_bytes),
        f"-{size(-left)}" if left is not None and left < 0 else size(left),
    )
    return f"{visible_line(device.device):<{_LABEL}}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells)


def _weights(plan: MemoryPlan) -> str:
    parts = [f"{size(plan.mapped_bytes)} mapped", f"{size(plan.copied_bytes)} copied into RAM"]
    if plan.streamed_bytes:
        parts[0] += f", {size(plan.streamed_bytes)} of them streamed"
    return "; ".join(parts)


def _said(plan: MemoryPlan, width: int) -> list[str]:
    verdict = "yes" if plan.fits else "no"
    freed = sum(device.freed_bytes for device in plan.devices)
    given_back = f"; {size(freed)} come back from the present model" if freed else ""
    said = [*_wrapped("fits", f"{verdict}, with {size(plan.margin_bytes)} kept free on each device{given_back}", width)]
    for entry in plan.would_fit:
        change = f" (--set {entry.key}={entry.value})" if entry.value else ""
        said += _wrapped("would fit", f"{entry.text}{change}", width)
    for note in plan.notes:
        said += _wrapped("note", visible_line(note), width)
    return said


def _remembered(last: tuple[Compared, ...], width: int) -> list[str]:
    rows = []
    for entry in last:
        rows += _wrapped(
            "last load",
            f"{visible_line(entry.device)}: {size(entry.predicted_bytes)} predicted, {size(entry.actual_bytes)} taken, "
            f"at {count(entry.n_ctx)} tokens of context",
            width,
        )
    return rows


def _wrapped(label: str, text: str, width: int) -> list[str]:
    first, *more = textwrap.wrap(text, max(30, width - _LABEL)) or [""]
    return [_row(label, first), *(_row("", line) for line in more)]


def _row(label: str, value: str) -> str:
    return f"{label:<{_LABEL}}{value}".rstrip()

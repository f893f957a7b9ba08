"""LAYERS: what each layer of a sampled token took, and on which device it is."""

from __future__ import annotations

from pagewise.app.figures import duration, percent, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import level, merged
from pagewise.app.palette import HEAT_STEPS
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, Span, clip, line
from pagewise.app.visible import visible_line
from pagewise.readings import LayerClock

_SHORT = {"input": "in", "output": "out"}


class Group:
    """Neighbouring layers on one device."""

    def __init__(self, device: str, first: int) -> None:
        self.device = device
        self.first = first
        self.last = first
        self.ms = 0.0


def groups(clock: LayerClock) -> list[Group]:
    """Runs of layers on one device, in order, with the time they took together."""
    found: list[Group] = []
    for index, (device, ms) in enumerate(zip(clock.devices, clock.ms, strict=False)):
        if not found or found[-1].device != device:
            found.append(Group(device, index))
        found[-1].last = index
        found[-1].ms += ms
    return found


def heat(value: float, top: float) -> str:
    """The role of a time: one of five steps."""
    return f"heat{max(0, min(HEAT_STEPS - 1, int(HEAT_STEPS * value / top)))}" if top > 0 else "heat0"


def cells(clock: LayerClock, gaps: bool) -> list[Span]:
    """One cell a layer, as high and as warm as its time; with a gap where the device changes."""
    top = max(clock.ms, default=0.0)
    found: list[Span] = []
    for index, ms in enumerate(clock.ms):
        if gaps and index and clock.devices[index] != clock.devices[index - 1]:
            found.append((" ", "text"))
        found.append((level(ms, top), heat(ms, top)))
    return found


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    clock = readout.clock
    probe = f"probe 1/{readout.probe_every}" if readout.probe_every else "probe off"
    if clock is None:
        why = "appears with the first probed token" if readout.probe_every or not readout.model else "probe_every is 0"
        return [title("LAYERS", probe if readout.model else "", figure("n/a"), width), quiet(why, width)]
    cost = readout.timing.probe_cost_pct if readout.timing else None
    if cost is not None:
        probe += f" +{percent(max(cost, 0.0))}"
    right = (*figure(duration(clock.total_ms)), (" a token", "muted"))
    lines = [title("LAYERS", probe, right, width)]
    runs = groups(clock)
    drawn = cells(clock, gaps=len(clock.ms) + len(runs) - 1 <= width)
    lines += [merged(drawn[start : start + width]) for start in range(0, len(drawn), width)]
    lines += _devices(clock, runs, width, max(rows, 1))
    if rows > 0 and (read := from_disk(clock)):
        lines.append(clip((("from disk ", "muted"), *read), width))
    return lines


def from_disk(clock: LayerClock) -> Line:
    """What of a probed token came from disk, and who read it; nothing where nothing came, or it is not known."""
    demand, ahead = clock.demand_total, clock.read_ahead_total
    if demand is None or ahead is None:
        came = sum(clock.page_in_bytes)
        return ((size(came), "text"), (", by whom is not known", "muted")) if came else ()
    if not demand and not ahead:
        return ()
    read: list[Span] = [("demand ", "muted"), (size(demand), "warn" if demand else "text")]
    if ahead:
        read += [("  read ahead ", "muted"), (size(ahead), "text")]
    return tuple(read)


def _devices(clock: LayerClock, runs: list[Group], width: int, rows: int) -> list[Line]:
    """Under the strip: which layers are on which device, and their time together."""
    parts = []
    for run in runs:
        first, last = _SHORT.get(clock.names[run.first], clock.names[run.first]), clock.names[run.last]
        last = _SHORT.get(last, last)
        names = first if first == last else f"{first}–{last}"
        parts.append(line((visible_line(run.device), "text"), (f" {names} ", "muted"), duration(run.ms)))
    lines: list[Line] = []
    for part in parts:
        joined: Line = (*lines[-1], ("  ", "text"), *part) if lines else part
        if lines and sum(len(text) for text, _ in joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return [clip(one, width) for one in lines[:rows]]


def _state(readout: Readout) -> list[str]:
    clock = readout.clock
    if clock is None:
        return [
            "No token was probed since this model was loaded. Ask something; a profile's probe_every says how often."
        ]
    slowest = sorted(zip(clock.ms, clock.names, clock.devices, strict=False), reverse=True)[:3]
    lines = [
        f"Token {clock.token} of the last reply took {duration(clock.total_ms)} while it was probed.",
        "Slowest: "
        + ", ".join(f"{name} ({visible_line(device)}) {duration(ms)}" for ms, name, device in slowest)
        + ".",
    ]
    lines += [
        f"{visible_line(run.device)}: {clock.names[run.first]} to {clock.names[run.last]}, {duration(run.ms)}, "
        f"{percent(100 * run.ms / clock.total_ms if clock.total_ms else None)} of the token."
        for run in groups(clock)
    ]
    if any(clock.stalls):
        waited = [name for name, stalls in zip(clock.names, clock.stalls, strict=False) if stalls]
        lines.append(f"Layers that waited for the disk: {', '.join(waited)}.")
    return [*lines, _about_disk(clock)]


def _about_disk(clock: LayerClock) -> str:
    demand, ahead = clock.demand_total, clock.read_ahead_total
    if demand is None or ahead is None:
        came = f"{size(sum(clock.page_in_bytes))} of its layers came" if clock.page_in_bytes else "What came"
        return f"{came} from disk meanwhile; the kernel does not tell here which threads read them."
    if not demand and not ahead:
        return "Nothing was read from disk for it."
    said = f"Read from disk for it: {size(demand)} on demand, which the threads that compute waited for"
    if ahead:
        said += f"; {size(ahead)} ahead of them, by the threads that stream the model"
    return f"{said}."


GAUGE = Gauge(
    name="LAYERS",
    draw=_draw,
    what="Milliseconds of each layer in one sampled token: one cell a layer, higher and warmer means slower; a gap "
    "where the device changes. Below it, the layers of each device and their time together, and what came from disk "
    "for that token: on demand (the computing threads waited for it), or read ahead of them.",
    unit="ms",
    source="The engine's layer clock: llama.cpp's scheduler reports each finished layer of a probed token. An upper "
    "bound, since each layer is waited for. From disk: what the kernel counts of each thread in /proc.",
    how="Equal heights on one device are healthy. One tall layer waits for the disk or is larger; a slow group shows "
    "the device that sets the pace. The probe's own cost stands beside it.",
    state=_state,
)

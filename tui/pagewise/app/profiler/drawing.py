"""A flame graph as lines: root at the top, one row a call, widths in eighths of a cell, one hue a library."""

from __future__ import annotations

import zlib
from collections.abc import Collection

from rich.cells import cell_len, set_cell_size

from pagewise.app.figures import count, percent, share
from pagewise.app.gauges.strip import EIGHTHS, merged
from pagewise.app.palette import HUES
from pagewise.app.profiler.flame import Box, Frame, Stack, library_of, named, short
from pagewise.app.spans import Line, Span, clip, line
from pagewise.app.visible import visible_line
from pagewise.messages import Failure
from pagewise.readings import StackProfile

_SHORTEST = 3
"""Cells below which a name says nothing."""
_OWN_HUE = {"pagewise": 0, "llama.cpp": 1, "ggml": 2, "CUDA": 3, "python": 4, "system": 5}


def hue_of(library: str) -> str:
    """The role of a library's frames: always the same one."""
    if library == "thread":
        return "muted"
    index = _OWN_HUE.get(library)
    return f"hue{index if index is not None else zlib.crc32(library.encode()) % HUES}"


def draw_row(boxes: list[Box], width: int, chosen: Frame | None, lit: Collection[int] | None) -> Line:
    """One row. ``lit``: the frames that a search found, by ``id``; the others are faint then."""
    cells: list[Span] = [(" ", "text")] * width
    taken = 0
    for box in boxes:
        frame = box.frame
        here = frame is chosen
        role = "text strong" if here else hue_of(library_of(frame.label))
        if lit is not None and id(frame) not in lit and not here:
            role = "faint"
        first = max(-(-box.start // 8), taken)
        full, part = divmod(box.end, 8)
        if full > first:
            # A frame that ends with a cell gives up the last eighth of it, so that the next one is seen to begin.
            whole = full - first - (0 if part else 1)
            mark = "▸" if here else ""
            label = mark + visible_line(short(frame.label)) if whole >= _SHORTEST else mark
            for index, character in enumerate(_label(label, whole)):
                cells[first + index] = (character, f"{role} chosen")
            cells[first + whole] = (EIGHTHS[part or 7], role)
            taken = first + whole + 1
        elif part and full >= taken and full < width:
            cells[full] = (EIGHTHS[part], role)
            taken = full + 1
    return merged(cells)


def _label(text: str, width: int) -> str:
    """As many cells, each one character: wide ones do not fit the grid."""
    if any(cell_len(character) != 1 for character in text):
        text = "".join(character if cell_len(character) == 1 else "?" for character in text)
    if len(text) > width:
        text = text[: width - 1] + "…" if width > 3 else text[:width]
    return set_cell_size(text, width)


def describe(frame: Frame, whole: int, rate_hz: int, width: int) -> list[Line]:
    """Two lines: what the frame is, and its time."""
    name, place = named(frame.label)
    library = library_of(frame.label)
    first = line(("■ ", hue_of(library)), (visible_line(name), "value"), (f"  {visible_line(place)}", "muted"))
    second = line(
        (seconds(frame.samples, rate_hz), "value"),
        (f"  {percent(share(frame.samples, whole))} of all", "text"),
        (f"   by itself {seconds(frame.own, rate_hz)}, {percent(share(frame.own, whole))}", "muted"),
        (f"   {library}", "text"),
    )
    return [clip(first, width), clip(second, width)]


def seconds(samples: int, rate_hz: int) -> str:
    """Samples as time."""
    value = samples / rate_hz
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def summary(profile: StackProfile, stacks: list[Stack], hide_sleep: bool) -> list[Span]:
    """What was recorded, what cannot be seen, and what is left out."""
    parts = [f"{profile.tool} at {profile.rate_hz} Hz, {profile.seconds:.1f} s, pid {profile.pid}"]
    if profile.unseen_threads:
        threads = f"{count(profile.unseen_threads)} compute thread{'' if profile.unseen_threads == 1 else 's'}"
        parts.append(f"{threads} cannot be seen, which kept {profile.unseen_cores or 0.0:.1f} cores busy")
    elif profile.unseen_threads is None:
        parts.append("how many compute threads cannot be seen is not known")
    asleep = sum(stack.count for stack in stacks if stack.sleeps)
    if asleep and hide_sleep:
        whole = sum(stack.count for stack in stacks)
        parts.append(f"{percent(share(asleep, whole))} of the samples slept and are left out (i)")
    parts += [note.rstrip(".") for note in profile.notes]
    return [(f"{visible_line('. '.join(parts))}.", "muted")]


def told(failure: Failure) -> list[Span]:
    """A failure as spans, each part on its own line."""
    return [
        ("▲ ", "warn"),
        (f"{visible_line(failure.what)}.\n", "text"),
        (f"{visible_line(failure.why)}\n", "muted"),
        (failure.next, "text"),
    ]

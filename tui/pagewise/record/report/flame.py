"""A flame graph as inline SVG: callers above, callees below, as wide as their share of the samples.

Folders are left out, as everywhere on the page: a frame shows its function, and the bare name of its file.
"""

from __future__ import annotations

from collections.abc import Sequence

from pagewise.app.figures import count, percent, share
from pagewise.app.profiler.drawing import summary
from pagewise.app.profiler.flame import Box, Stack, layout, library_of, named, parse_folded, short, tree
from pagewise.readings import StackProfile
from pagewise.record.report.elements import text
from pagewise.record.report.svg import WIDTH, clock

_CELLS = 225
_EIGHTH = WIDTH / (8 * _CELLS)
_NARROWEST = 0.9
_ROW = 17
_LETTER = 6.6
"""Width of a letter on the page, on the safe side."""
MOST_ROWS = 48
_COLOURS = {"pagewise": 1, "ggml": 2, "CUDA": 2, "llama.cpp": 3, "python": 4}


def flame_section(at_s: float, profile: StackProfile) -> str:
    """Heading, what was and was not seen, and the graph."""
    stacks = parse_folded(profile.folded)
    awake = [stack for stack in stacks if not stack.sleeps]
    heading = f"<h3>Flame graph <small>{text(profile.program)}, at {clock(at_s)}</small></h3>"
    said = "".join(words for words, _ in summary(profile, stacks, hide_sleep=False))
    asleep = sum(stack.count for stack in stacks if stack.sleeps)
    if asleep:
        whole = sum(stack.count for stack in stacks)
        said += f" {percent(share(asleep, whole))} of the samples slept and are left out."
    graph = _graph(awake) if awake else "<p>No thread ran while it was recorded.</p>"
    return f"{heading}<p class=muted>{text(said)}</p>{graph}"


def public(label: str) -> str:
    """A frame without the folder that its file is in."""
    name, place = named(label)
    return f"{name} ({place.rpartition('/')[2]})" if place else name


def _graph(stacks: Sequence[Stack]) -> str:
    root = tree(list(stacks))
    boxes = layout(root, _CELLS)
    deepest = max(box.row for box in boxes)
    shown = [box for box in boxes if box.row < MOST_ROWS]
    height = _ROW * (min(deepest, MOST_ROWS - 1) + 1)
    drawn = "".join(_box(box, root.samples) for box in shown)
    cut = ""
    if deepest >= MOST_ROWS:
        said = f"{count(deepest + 1 - MOST_ROWS)} deeper rows are left out; stacks.csv (--csv) has them."
        cut = f"<p class=muted>{text(said)}</p>"
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Flame graph">{drawn}</svg>'
        f'<p class="legend"><span><i class="k1"></i>pagewise</span><span><i class="k2"></i>ggml</span>'
        f'<span><i class="k3"></i>llama.cpp</span><span><i class="k4"></i>Python</span></p>{cut}'
    )


def _box(box: Box, samples: int) -> str:
    x, width = box.start * _EIGHTH, max((box.end - box.start) * _EIGHTH, _NARROWEST)
    y = _ROW * box.row
    frame = box.frame
    colour = _COLOURS.get(library_of(frame.label), 0)
    said = f"{public(frame.label)}: {count(frame.samples)} samples, {percent(share(frame.samples, samples))}"
    letters = int((width - 6) / _LETTER)
    name = short(frame.label)
    words = name if len(name) <= letters else f"{name[: letters - 1]}…" if letters > 3 else ""
    label = f'<text class="frame" x="{x + 3:.1f}" y="{y + 12}">{text(words)}</text>' if words else ""
    return (
        f'<g><title>{text(said)}</title><rect class="f{colour}" x="{x:.1f}" y="{y}" width="{width - 0.5:.1f}" '
        f'height="{_ROW - 1}"/>{label}</g>'
    )

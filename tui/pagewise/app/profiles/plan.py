"""A plan as lines: a row a device, its bar, its parts, what would stay free, and what to do where it does not fit."""

from __future__ import annotations

from pagewise.app.figures import count, size
from pagewise.app.gauges.gauge import title
from pagewise.app.gauges.strip import merged
from pagewise.app.profiles.planner import Shown
from pagewise.app.spans import Line, Span, clip, fill, line, width_of, wrap
from pagewise.app.visible import visible, visible_line
from pagewise.jobs.plan import RAM, DevicePlan, MemoryPlan

PARTS = (("weights", "█"), ("KV", "▓"), ("compute", "▒"), ("driver", "░"))
"""Parts of what a device is to hold, each with its glyph in the bar."""
MAPPED = "░"
"""In the bar of RAM, where no driver is: pages of the file, which can be given up."""
_OTHERS = "▒"
_WIDE, _NARROW = 92, 62
_LONG_NAME, _SHORT_NAME = 15, 10
_LEFT = 10
"""Cells of what is needed, and of what stays free."""
_MOST_NOTES = 6


def vram_bytes(plan: MemoryPlan) -> int:
    """What it needs on all accelerators together."""
    return sum(device.needed_bytes for device in plan.devices if device.device != RAM)


def ram_bytes(plan: MemoryPlan) -> int:
    """What it needs in RAM, with the mapped part of the file."""
    return sum(device.needed_bytes for device in plan.devices if device.device == RAM) + plan.mapped_bytes


def draw_plan(shown: Shown, width: int, brief: bool = False) -> list[Line]:
    """What is known of it. Figures that wait for newer ones are quiet and marked. ``brief``: a line a device."""
    if shown.failure is not None:
        failure = shown.failure
        lines = [title("PLAN", "", (("cannot be made", "warn"),), width)]
        lines += wrap((("▲ ", "warn"), (f"{visible(failure.what)}: {visible(failure.why)}", "text")), width, rest=2)
        return [*lines, *wrap((("  → ", "accent"), (visible(failure.next), "text")), width, rest=4)]
    plan = shown.plan
    if plan is None:
        return [title("PLAN", "", (("being made…", "muted"),), width)]
    detail = f"{_layers(plan)} · ctx {count(plan.n_ctx)}"
    lines = [title("PLAN", "" if shown.stale or width < _NARROW else detail, _verdict(plan, shown.stale), width)]
    if brief or width < _NARROW:
        lines += [_short(device, plan, width, shown.stale) for device in _in_order(plan)]
        return lines if shown.stale else [*lines, *_advice(plan, width)]
    lines += _table(plan, width, shown.stale)
    lines += _file(plan, width, shown.stale)
    return lines if shown.stale else [*lines, *_advice(plan, width), *_last(plan, width)]


def _layers(plan: MemoryPlan) -> str:
    return f"{plan.offloaded_layers} of {plan.n_layer + 1} layers on GPU" if plan.offloaded_layers else "on the CPU"


def _verdict(plan: MemoryPlan, stale: bool) -> Line:
    if stale:
        return line(("◌ newer figures are on their way", "muted"))
    kind = (" · estimate", "muted") if plan.estimate else ""
    if plan.fits:
        return line(("fits", "accent"), kind)
    over = max((-left for device in plan.devices if (left := left_bytes(device)) is not None), default=0)
    much = f": {size(over)} over" if over > 0 else ""
    return line((f"▲ does not fit{much}", "strong warn"), kind)


def left_bytes(device: DevicePlan) -> int | None:
    """What would stay free; negative where it does not fit."""
    return None if device.free_bytes is None else device.free_bytes - device.needed_bytes


def _table(plan: MemoryPlan, width: int, stale: bool) -> list[Line]:
    wide = width >= _WIDE
    cell, room = (10, _LONG_NAME) if wide else (9, _SHORT_NAME)
    bar = max(width - room - len(PARTS) * cell - 2 * _LEFT, 0)
    head: list[Span] = [(" " * (room + bar), "text")]
    for name, glyph in PARTS:
        label = f"{glyph} {name}" if wide else name
        head += [(f"{label:>{cell}}", "muted")]
    head += [(f"{'needs':>{_LEFT}}{'then free':>{_LEFT}}", "muted")]
    lines: list[Line] = [clip(head, width)]
    for device in _in_order(plan):
        left = left_bytes(device)
        figures: list[Span] = []
        for value in (device.weights_bytes, device.kv_bytes, device.compute_bytes, device.driver_bytes):
            known = "–" if device.device == RAM and value is None else "?" if value is None else _or_dash(value)
            figures.append((f"{known:>{cell}}", "muted" if stale or known in "–?" else "text"))
        figures.append((f"{size(device.needed_bytes):>{_LEFT}}", "muted" if stale else "value"))
        over = left is not None and left < 0
        role = "muted" if stale else "strong warn" if over else "text"
        figures.append((f"{_signed(left):>{_LEFT}}", role))
        named = fill(clip(((_name(device), "muted" if stale else "text"),), room - 1), room)
        lines.append(clip((*named, *_bar(device, plan, bar, stale), *figures), width))
    return lines


def _name(device: DevicePlan) -> str:
    return RAM if device.device == RAM else visible_line(device.description or device.device)


def _or_dash(value: int) -> str:
    return size(value) if value else "–"


def _signed(value: int | None) -> str:
    if value is None:
        return "n/a"
    return size(value) if value >= 0 else f"−{size(-value)}"


def _in_order(plan: MemoryPlan) -> list[DevicePlan]:
    """Accelerators first: theirs is the memory that is scarce."""
    return sorted(plan.devices, key=lambda device: device.device == RAM)


def _short(device: DevicePlan, plan: MemoryPlan, width: int, stale: bool) -> Line:
    left = left_bytes(device)
    role = "muted" if stale else "strong warn" if left is not None and left < 0 else "text"
    quiet = "muted" if stale else "text"
    figures = line(
        (f" {size(device.needed_bytes):>8}", quiet), (", then free", "muted"), (f" {_signed(left):>9}", role)
    )
    name = fill(clip(((_name(device), quiet),), _SHORT_NAME - 1), _SHORT_NAME)
    bar = _bar(device, plan, max(width - _SHORT_NAME - width_of(figures), 0), stale)
    return clip((*name, *bar, *figures), width)


def _bar(device: DevicePlan, plan: MemoryPlan, width: int, stale: bool) -> Line:
    """Ours from the left, what others hold at the right edge, what is beyond the free room as a warning."""
    total, free = device.total_bytes, device.free_bytes
    if not total or free is None or width < 4:
        return fill((("", "text"),), width)
    others = max(total - free, 0)
    parts = [device.weights_bytes, device.kv_bytes, device.compute_bytes, device.driver_bytes or 0]
    glyphs = [glyph for _, glyph in PARTS]
    if device.device == RAM:
        parts.append(min(plan.mapped_bytes, max(free - device.needed_bytes, 0)))
        glyphs.append(MAPPED)
    whole = max(total, device.needed_bytes + others)
    cells: list[Span] = []
    done = 0
    for value, glyph in zip(parts, glyphs, strict=True):
        done += value
        end = round(width * done / whole)
        length = max(end - len(cells), 1 if value and len(cells) < width else 0)
        cells += [(glyph, "accent")] * length
    room = round(width * free / whole)
    cells = cells[:width]
    if device.needed_bytes > free:
        cells = [(glyph, role if index < room else "warn") for index, (glyph, role) in enumerate(cells)]
    taken = min(max(round(width * others / whole), 1 if others else 0), width - len(cells))
    cells += [("╌", "faint")] * (width - taken - len(cells)) + [(_OTHERS, "faint")] * taken
    return merged([(glyph, "faint") for glyph, _ in cells] if stale else cells)


def _file(plan: MemoryPlan, width: int, stale: bool) -> list[Line]:
    """How the weights in RAM come from the file, where some are."""
    role = "muted" if stale else "text"
    parts: list[list[Span]] = []
    if plan.mapped_bytes:
        parts.append([(size(plan.mapped_bytes), role), (f" mapped {MAPPED}", "muted")])
    if plan.copied_bytes:
        parts.append([(size(plan.copied_bytes), role), (" copied", "muted")])
    if plan.streamed_bytes:
        figure = (size(plan.streamed_bytes), "muted" if stale else "warn")
        parts.append([figure, (" read from disk for each token", "muted")])
    spans: list[Span] = [("weights in RAM ", "muted")]
    for index, part in enumerate(parts):
        spans += [("   ", "text"), *part] if index else part
    return [clip(spans, width)] if parts else []


def _advice(plan: MemoryPlan, width: int) -> list[Line]:
    lines: list[Line] = []
    for note in plan.notes[:_MOST_NOTES]:
        mark: Span = ("· ", "muted") if plan.fits else ("▲ ", "warn")
        lines += wrap((mark, (visible(note), "text")), width, rest=2)
    if len(plan.notes) > _MOST_NOTES:
        lines.append(line((f"  and {len(plan.notes) - _MOST_NOTES} more", "muted")))
    for change in plan.would_fit:
        given = f"{change.key} = {change.value}" if change.value else ""
        words = visible(change.text) if not given or given in change.text else f"{given}: {visible(change.text)}"
        lines += wrap((("→ ", "accent"), (words, "text")), width, rest=2)
    return lines


def _last(plan: MemoryPlan, width: int) -> list[Line]:
    """How the last load compared with its plan."""
    told = [_told(entry.device, entry.predicted_bytes, entry.actual_bytes) for entry in plan.last]
    return wrap((("last load  ", "muted"), (" · ".join(told), "muted")), width, rest=11) if told else []


def _told(device: str, predicted: int, actual: int) -> str:
    missed = actual - predicted
    share = 100 * abs(missed) / max(actual, 1)
    how = "as planned" if share < 0.5 else f"{share:.0f} % {'more' if missed > 0 else 'less'} than planned"
    return f"{visible_line(device)} took {size(actual)}, {how}"

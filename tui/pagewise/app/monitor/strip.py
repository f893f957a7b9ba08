"""The strip: one line for each model, with what tells them apart first."""

from __future__ import annotations

from pagewise.app.figures import duration, per_second, percent, rate, share, size
from pagewise.app.monitor.watched import name_of
from pagewise.app.spans import Line, Span, clip, ends, line, width_of
from pagewise.app.visible import visible_line
from pagewise.readings import WatchedModel

_SHORTEST_NAME, _WHOLE_NAME = 16, 26
_BEFORE_NAMES = 3
"""Figures that matter more than a name in full."""


def draw_model(model: WatchedModel, width: int, devices: bool = True) -> Line:
    """One line of ``width`` cells. Figures stand at the right edge in fixed places; what matters least goes first.

    ``devices``: there is one, so that VRAM is worth a place.
    """
    program = visible_line(model.program)
    pid = "–" if model.pid is None else str(model.pid)
    who = line((f"{program:<12.12}", "text"), (f" {pid:>7}  ", "muted"))
    if model.state == "ended":
        return ends((*who, *_named(model), ("  has ended", "warn")), (), width)
    figures = [_decode(model), _page_in(model), _in_ram(model), _kv(model)]
    figures += [*([_vram(model)] if devices else []), _private(model), _ttft(model)]
    shown: list[Line] = []
    for figure in figures:
        least = _SHORTEST_NAME if len(shown) < _BEFORE_NAMES else _WHOLE_NAME
        if width_of(who) + least + sum(width_of(one) + 2 for one in (*shown, figure)) > width:
            break
        shown.append(figure)
    right: list[Span] = []
    for one in shown:
        right += [("  ", "text"), *one]
    bound = _bound(model)
    room = width - width_of(who) - width_of(right)
    name = _named(model)
    if bound and room - width_of(bound) - 2 >= 30:
        return ends((*who, *clip(name, room - width_of(bound) - 2), ("  ", "text"), *bound), right, width)
    return ends((*who, *clip(name, max(room - 1, 0))), right, width)


def _named(model: WatchedModel) -> Line:
    quant = model.models[0].quant if model.models else ""
    more = f" and {len(model.models) - 1} more" if len(model.models) > 1 else ""
    return line(
        (visible_line(name_of(model)) or "n/a", "strong"),
        (f" {visible_line(quant)}" if quant else "", "text"),
        (more, "muted"),
    )


def _bound(model: WatchedModel) -> Line:
    if model.verdict is None or model.verdict.bound_by == "unclear":
        return ()
    return line(("bound by ", "muted"), (visible_line(model.verdict.bound_by), "accent"))


def _decode(model: WatchedModel) -> Line:
    decode = model.decode_rate
    if decode is None:
        return line((f"{'n/a tok/s':>10}", "muted"))
    if decode == 0:
        return line((f"{'idle':>10}", "muted"))
    return line((f"{per_second(decode):>10}", "value"))


def _page_in(model: WatchedModel) -> Line:
    value = model.paging.page_in_bytes_s if model.paging else None
    return line(("in ", "muted"), (f"{rate(value):>8}", "warn" if value and value >= 1e6 else "text"))


def _in_ram(model: WatchedModel) -> Line:
    residency = model.residency[0] if model.residency else None
    value = percent(share(residency.file_cached_bytes, residency.file_bytes)) if residency else "n/a"
    return line(("file ", "muted"), (f"{value:>5}", "text"))


def _kv(model: WatchedModel) -> Line:
    return line(("ctx ", "muted"), (f"{percent(model.kv_pct):>5}", "text"))


def _private(model: WatchedModel) -> Line:
    return line(("RAM ", "muted"), (f"{size(model.anon_bytes):>8}", "text"))


def _vram(model: WatchedModel) -> Line:
    return line(("VRAM ", "muted"), (f"{size(model.vram_bytes):>8}", "text"))


def _ttft(model: WatchedModel) -> Line:
    about = "≈" if model.ttft_is_estimate and model.ttft_ms is not None else " "
    text = f"{about}{duration(model.ttft_ms):>8}"
    return line(("TTFT ", "muted"), (text, "text"))

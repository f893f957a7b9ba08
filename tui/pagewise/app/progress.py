"""What is happening before words arrive: a load, a prompt being read. Drawn where the reply will stand."""

from __future__ import annotations

from pagewise.app.figures import count, of_size, size
from pagewise.app.gauges.strip import bar
from pagewise.app.session import Session
from pagewise.app.spans import Line, clip, line, width_of
from pagewise.app.under_way import LoadState, Turn
from pagewise.app.visible import visible_line

_PHASES = {
    "": "starting",
    "quantize": "making the quantized file, once",
    "free": "letting go of the former model",
    "wait": "waiting for the memory to come back",
    "read": "reading the file",
    "weights": "loading the weights",
    "context": "making the context",
    "warm": "warming up",
    "restart": "starting the engine again",
}


def draw_progress(session: Session, width: int) -> list[Line]:
    """At most one line, or none when nothing is under way."""
    if session.load is not None:
        return [_load(session.load, width)]
    turn = session.turn
    if turn is not None and not turn.reply.shown and not turn.reply.stopping:
        return [_turn(turn, width)]
    if session.host is None and session.model is None:
        return [clip(line(("  ", "text"), ("starting the host", "muted")), width)]
    return []


def _load(load: LoadState, width: int) -> Line:
    if load.cancelling:
        return clip(line(("  ", "text"), ("cancelling the load…", "muted")), width)
    doing = _PHASES.get(load.phase, visible_line(load.phase))
    what = f"{visible_line(load.profile.name)}: {doing}"
    if load.total_bytes <= 0:
        figures = size(load.done_bytes) if load.done_bytes else ""
        return _line(what, None, figures, "Esc cancels", width)
    return _line(
        what, load.done_bytes / load.total_bytes, of_size(load.done_bytes, load.total_bytes), "Esc cancels", width
    )


def _turn(turn: Turn, width: int) -> Line:
    prefill = turn.prefill
    if prefill is None or prefill.total <= 0:
        return _line("waiting for the first token", None, "", "Esc stops", width)
    figures = f"{count(prefill.done)} / {count(prefill.total)} tokens"
    if prefill.reused:
        figures += f", {count(prefill.reused)} from the KV cache"
    return _line("reading the prompt", prefill.done / prefill.total, figures, "Esc stops", width)


def _line(what: str, share: float | None, figures: str, key: str, width: int) -> Line:
    left = line(("  ", "text"), (what, "text"), "  ")
    right = line((f"  {figures}" if figures else "", "text"), (f"  {key}", "muted"))
    room = min(width - width_of(left) - width_of(right), 28)
    middle = bar(share, room, "accent") if share is not None and room >= 6 else ()
    return clip((*left, *middle, *right), width)

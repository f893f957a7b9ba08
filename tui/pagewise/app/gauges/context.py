"""CONTEXT: how full the KV cache is."""

from __future__ import annotations

from pagewise.app.figures import count, percent, share, size
from pagewise.app.gauges.gauge import Gauge, figure, quiet, title
from pagewise.app.gauges.strip import bar
from pagewise.app.readout import Readout
from pagewise.app.spans import Line, ends, width_of

NEARLY_FULL = 90.0
"""Per cent from which on the bar warns."""


def _draw(readout: Readout, width: int, rows: int) -> list[Line]:
    model, used = readout.model, readout.kv_used
    if model is None or used is None:
        return [title("CONTEXT", "", figure("n/a"), width), quiet("no model is loaded", width)]
    filled = share(used, model.n_ctx)
    full = (filled or 0) >= NEARLY_FULL
    right = (
        (f"{count(used)} / {count(model.n_ctx)}", "value"),
        (" tokens", "muted"),
        (f"{percent(filled):>7}", "warn" if full else "text"),
    )
    role = "warn" if full else "accent"
    if rows < 2:
        room = width - len("CONTEXT") - width_of(right) - 4
        inline = bar((filled or 0) / 100, room, role) if room >= 4 else ()
        return [ends((("CONTEXT", "label"), ("  ", "text"), *inline), right, width)]
    return [title("CONTEXT", "", right, width), bar((filled or 0) / 100, width, role)]


def _state(readout: Readout) -> list[str]:
    model, used = readout.model, readout.kv_used
    if model is None or used is None:
        return ["No model is loaded."]
    lines = [
        f"{count(used)} of {count(model.n_ctx)} tokens are used; the model was trained for {count(model.n_ctx_train)}.",
        f"One token of KV cache takes {size(model.kv_bytes_per_token)}; full, it takes "
        f"{size(model.kv_bytes_per_token * model.n_ctx)}.",
    ]
    if (share(used, model.n_ctx) or 0) >= NEARLY_FULL:
        lines.append("It is nearly full: start a new conversation (ctrl+n), or choose a profile with a larger n_ctx.")
    return lines


GAUGE = Gauge(
    name="CONTEXT",
    draw=_draw,
    what="How full the context is: tokens in the KV cache, of as many as it can hold (n_ctx).",
    unit="tokens",
    source="The engine: the position of the sequence's last token, plus one.",
    how="Tokens get slower as it fills. When it is full the reply ends; a new conversation starts empty, a larger "
    "n_ctx holds more.",
    state=_state,
)

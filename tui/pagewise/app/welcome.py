"""An empty conversation: what one can ask, and what one can press."""

from __future__ import annotations

from collections.abc import Callable

from pagewise.app.session import Session
from pagewise.app.spans import BLANK, Line, clip, indent, wrap

GUIDE = "guide"
Welcome = Callable[[Session, int, int], list[Line]]
"""Draws an empty conversation into so many columns and rows."""
_QUESTIONS = (
    "What is a KV cache?",
    "Why is a model slow when it does not fit into RAM?",
    "Which quant should I choose?",
)
_KEYS = (
    ("Enter", "send"),
    ("F2", "profiles: another model, quant or placement"),
    ("F3", "gauges, and what each of them means"),
    ("^O", "open a GGUF file"),
    ("F4", "earlier conversations"),
    ("F1", "all keys"),
)


def draw_welcome(session: Session, width: int, height: int) -> list[Line]:
    """As much of it as the height allows, the most useful first."""
    profile = session.profile or session.wanted
    if profile.model == GUIDE:
        what = (
            "You are talking to the guide, a small model that ships with pagewise and answers questions about running "
            "language models. Ask it something:"
        )
        asks: tuple[str, ...] = _QUESTIONS
    else:
        what = "Ask anything. The gauges show where the model's bytes are and where each token's time goes."
        asks = ()
    room = max(min(width - 2, 72), 1)
    blocks: list[list[Line]] = [wrap(((what, "text"),), room)]
    if asks:
        blocks.append([clip((("  ", "text"), (ask, "accent")), room) for ask in asks])
    blocks.append([clip(((f"{key:>6}", "value"), (f"  {word}", "muted")), room) for key, word in _KEYS])
    lines: list[Line] = []
    for block in blocks:
        if len(lines) + len(block) + 1 > height:
            break
        lines += [*([BLANK] if lines else []), *block]
    top = max((height - len(lines)) // 3, 0)
    return [BLANK] * top + indent(lines, ("  ", "text"))

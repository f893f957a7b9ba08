"""What is said of a profile below the table: its cost, what is wrong, what is asked before something is lost."""

from __future__ import annotations

from collections.abc import Sequence

from pagewise.app.spans import BLANK, Line, Span, line, wrap
from pagewise.app.visible import visible, visible_line
from pagewise.messages import ChangeClass, Failure
from pagewise.settings import Profile

COSTS: dict[ChangeClass, str] = {
    "none": "This profile runs now.",
    "live": "Takes effect with the next token; nothing is loaded.",
    "context": "Makes a new context; the weights stay loaded and the conversation is kept.",
    "model": "Loads the weights again; the conversation is kept.",
    "process": "Starts a new engine; the conversation is kept.",
    "held": "Its model is still held in memory: it takes over at once.",
}


def draw_change(change: ChangeClass, reasons: Sequence[str], width: int) -> list[Line]:
    """What switching costs, and which keys make it so."""
    spans: list[Span] = [("change  ", "muted"), (COSTS[change], "text")]
    if reasons:
        spans.append(("  " + visible_line(" · ".join(reasons)), "muted"))
    return wrap(spans, width, rest=8)


def draw_failure(failure: Failure, width: int, restored: str | None = None) -> list[Line]:
    """What happened, why, and what to do next."""
    lines = wrap((("▲ ", "warn"), (visible(failure.what), "strong warn")), width, rest=2)
    lines += wrap((("  ", "text"), (visible(failure.why), "text")), width, rest=2)
    then = f"{visible_line(restored)} is in force again. " if restored else ""
    return [*lines, *wrap((("  → ", "accent"), (then + visible(failure.next), "text")), width, rest=4)]


def draw_unusable(failures: Sequence[Failure], width: int) -> list[Line]:
    """The files that hold no profile that can be used, each with its reason."""
    if not failures:
        return []
    many = "s" if len(failures) > 1 else ""
    lines = [BLANK, line((f"▲ {len(failures)} profile{many} cannot be used", "strong warn"))]
    for failure in failures:
        words: list[Span] = [
            ("  ", "text"),
            (visible_line(failure.what), "text"),
            (f": {visible_line(failure.why)} ", "muted"),
            (visible_line(failure.next), "text"),
        ]
        lines += wrap(words, width, rest=2)
    return lines


def draw_deletion(profile: Profile, extended_by: Sequence[str], width: int) -> list[Line]:
    """The question before a file is deleted. ``extended_by``: profiles that take values from it."""
    asked = (f"Delete “{visible_line(profile.name)}” for good?  ", "strong")
    lines = wrap((("▲ ", "warn"), asked, (visible_line(profile.source), "muted")), width, rest=2)
    if extended_by:
        names = visible_line(", ".join(extended_by))
        lines += wrap(
            (("  ", "text"), (f"These take values from it and could not be used: {names}.", "text")), width, 2
        )
    return [*lines, *wrap((("  D", "value"), (" again deletes, any other key keeps it", "muted")), width, rest=2)]

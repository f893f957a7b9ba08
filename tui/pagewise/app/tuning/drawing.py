"""Trials as rows, how far it is, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

from pagewise.app.figures import count, duration, size
from pagewise.app.spans import Line, Span, clip, ends, fill, line, width_of, wrap
from pagewise.app.tuning.state import Tuning
from pagewise.app.tuning.telling import resumed_words
from pagewise.app.visible import visible_line
from pagewise.jobs.tune import Outcome, Trial, TrialBegun
from pagewise.messages import Failure

_MARKS: dict[Outcome, tuple[str, str]] = {
    "start": ("○", "text"),
    "better": ("▲", "accent"),
    "same": ("=", "muted"),
    "worse": ("▽", "muted"),
    "dropped": ("▽", "faint"),
    "failed": ("✗", "warn"),
    "ruled out": ("·", "faint"),
}
_WORDS: dict[Outcome, str] = {
    "better": "better: taken",
    "same": "no difference that can be told",
    "worse": "worse",
    "dropped": "much worse at first sight: dropped",
    "failed": "it could not run: one lost trial",
    "ruled out": "ruled out",
}
_GOALS = {
    "chat": "time of one more token",
    "long-prompts": "time to the first token",
    "batch": "time of a whole answer",
}
_START = "where you are; each trial is measured beside the best so far"
_GAVE_WAY = "A message, a switch or the system needed the engine: the tune gave way."
_FIGURES = (("TPOT", 8), ("TTFT", 8), ("vs best", 8), ("memory", 9))
_WIDE, _MIDDLING = 64, 48
"""From these widths on memory is shown too, and TTFT."""


def minutes(seconds: float) -> str:
    """A while, such as ``40 s``, ``6 min``, or ``6 min 16 s`` below ten minutes."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 60} min"


def draw_head(width: int) -> Line:
    """The names of the columns."""
    return _columns((" ", "muted"), ("what was changed", "muted"), [name for name, _ in _FIGURES], "muted", width)


def draw_trial(trial: Trial, best: int, width: int) -> Line:
    """One row."""
    mark = _MARKS[trial.outcome]
    role = "accent" if trial.number == best else "faint" if trial.outcome == "ruled out" else "text"
    cells = [
        duration(trial.tpot_ms) if trial.tpot_ms else "",
        duration(trial.ttft_ms) if trial.ttft_ms else "",
        f"{trial.gain:.2f}×" if trial.gain is not None else "",
        size(trial.memory_bytes) if trial.memory_bytes is not None else "",
    ]
    if not any(cells) and trial.failure is not None:
        return _aside(mark, _changed(trial.changes), visible_line(trial.failure.what), role, width)
    return _columns(mark, (_changed(trial.changes), role), cells, role, width)


def draw_begun(begun: TrialBegun, phase: str, width: int) -> Line:
    """The row of what is being tried."""
    return _aside(("◌", "warn"), _changed(begun.changes), phase, "text", width)


def _changed(changes: Sequence[str]) -> str:
    return visible_line(", ".join(changes)) or "the start"


def _aside(mark: Span, what: str, words: str, role: str, width: int) -> Line:
    """A row that has words instead of figures."""
    words_room = min(len(words), max(width - 3 - min(len(what), width // 2) - 2, 0))
    right = clip(((words, "muted"),), words_room)
    return ends(line(mark, ("  ", "text"), (what, role)), right, width)


def _columns(mark: Span, what: Span, cells: Sequence[str], role: str, width: int) -> Line:
    kept = (0, 1, 2, 3) if width >= _WIDE else (0, 1, 2) if width >= _MIDDLING else (0, 2)
    sizes = [_FIGURES[index][1] for index in kept]
    room = width - 3 - sum(sizes) - len(sizes)
    spans: list[Span] = [mark, ("  ", "text"), *fill((what,), room)]
    for index, cell in zip(kept, sizes, strict=True):
        spans.append((" " + cells[index].rjust(cell), role))
    return clip(spans, width)


def draw_state(tuning: Tuning, width: int) -> list[Line]:
    """What it aims at, how far it is, and the best so far."""
    aim = tuning.wanted.aim
    depth = "behind the conversation" if tuning.wanted.in_place else f"at depth {count(aim.depth)}"
    where = f"{count(aim.n_prompt)} + {count(aim.n_output)} tokens {depth}"
    goal = line(("aim   ", "muted"), (f"{aim.goal}: {_GOALS[aim.goal]}", "text"))
    lines = [_beside(goal, [where, depth], width)]
    if aim.depth_from and not tuning.wanted.in_place:
        lines.append(clip((("depth ", "muted"), (visible_line(aim.depth_from), "text")), width))
    lines.append(_beside(_now(tuning), _times(tuning), width))
    best = tuning.best_trial
    if best is not None:
        figures = [f"TPOT {duration(best.tpot_ms)}", f"TTFT {duration(best.ttft_ms)}", size(best.memory_bytes)]
        how = f"{tuning.gain:.2f}× the start" if best.number else "the start"
        lines.append(
            clip((("best  ", "muted"), (how, "strong accent"), ("   ", "text"), (" · ".join(figures), "text")), width)
        )
    return lines


def _now(tuning: Tuning) -> Line:
    trials = f"{count(tuning.tried)} trial{'s' if tuning.tried != 1 else ''}"
    if tuning.result is not None:
        return line(("● ", "accent"), (f"done, {trials}", "text"))
    if tuning.over:
        return line(
            ("■ ", "warn"), (f"stopped after {trials}" if tuning.cancelled else f"ended early, {trials}", "text")
        )
    if tuning.last is not None:
        pairs = f"pair {tuning.last.pair} of {tuning.last.pairs}"
        return line(("● ", "warn"), ("measuring the best beside the start once more", "text"), (f"  {pairs}", "muted"))
    if not tuning.trials and not tuning.measures:
        return line(("● ", "warn"), (_phase(tuning), "text"))
    if not tuning.trials:
        return line(("● ", "warn"), ("measuring where you are", "text"), (f"  {_phase(tuning)}", "muted"))
    if tuning.ending:
        return line(("● ", "warn"), ("ending the trial in hand, then one last comparison", "text"))
    whole = tuning.tried + tuning.trials_left
    return line(("● ", "warn"), (f"trial {count(tuning.tried + 1)} of {count(whole)} at most", "text"))


def _phase(tuning: Tuning) -> str:
    return visible_line(tuning.phase)


def _times(tuning: Tuning) -> list[str]:
    """How long it has taken and will take, in fewer and fewer words."""
    spent, left = minutes(tuning.seconds), tuning.seconds_left
    if tuning.over or tuning.last is not None or tuning.ending or left is None:
        return [spent]
    still = minutes(5 * round(left / 5)) if left >= 5 else "a moment"
    return [f"{spent} · at most about {still} left", f"{still} left"]


def _beside(left: Line, rights: Sequence[str], width: int) -> Line:
    """The first of ``rights`` that leaves room for all of ``left``, at the right edge."""
    for right in rights:
        if width_of(left) + 2 + len(right) <= width:
            return ends(left, line((right, "muted")), width)
    return clip(left, width)


def draw_begun_detail(tuning: Tuning, width: int) -> list[Line]:
    """Why this is being tried, and how far it is."""
    if tuning.now is None:
        return []
    lines = wrap((("why   ", "muted"), (visible_line(tuning.now.why), "text")), width, rest=6)
    now = "in turns with the best so far, until it is clear which is better"
    return [*lines, *wrap((("now   ", "muted"), (now, "text")), width, rest=6)]


def draw_trial_detail(trial: Trial, width: int) -> list[Line]:
    """Why it was tried, and how sure the figure is."""
    if trial.outcome == "start":
        return wrap((("why   ", "muted"), (_START, "text")), width, rest=6)
    lines = wrap((("why   ", "muted"), (visible_line(trial.why), "text")), width, rest=6)
    told = _WORDS[trial.outcome]
    if trial.gain is not None and trial.low is not None and trial.high is not None:
        pairs = f"{count(trial.pairs)} pair{'s' if trial.pairs != 1 else ''}"
        told += f"; {trial.gain:.3f}× the best before it ({trial.low:.3f} to {trial.high:.3f}, {pairs})"
    if trial.kl is not None:
        told += f"; KL divergence {trial.kl:.2g}"
    lines += wrap((("then  ", "muted"), (told, "text")), width, rest=6)
    if trial.failure is not None:
        words = f"{trial.failure.what}: {trial.failure.why}"
        lines += wrap((("      ", "text"), (visible_line(words), "warn")), width, rest=6)
    return lines


def draw_resumed(tuning: Tuning, width: int) -> list[Line]:
    """What it goes on from."""
    if tuning.resumed is None:
        return []
    return wrap((("from  ", "muted"), (resumed_words(tuning.resumed), "text")), width, rest=6)


def draw_result(tuning: Tuning, width: int) -> list[Line]:
    """What was found, with its evidence; or why nothing was."""
    if tuning.failure is not None:
        return _draw_end(tuning, tuning.failure, width)
    result = tuning.result
    if result is None:
        return []
    lines = []
    if result.best.number:
        sure = f"{result.low:.3f} to {result.high:.3f} in {count(result.pairs)} pairs, measured again beside the start"
        lines += wrap(
            (("✓ ", "accent"), (f"{result.gain:.3f}× ", "strong accent"), (f"({sure})", "text")), width, rest=2
        )
        for reason in result.reasons:
            lines += wrap((("  ", "text"), (visible_line(reason), "text")), width, rest=4)
    elif tuning.tried and not result.pairs:
        lines += wrap((("✓ ", "accent"), ("Where you are is as good as all that was tried.", "text")), width, rest=2)
    for note in result.notes:
        lines += wrap((("  ", "text"), (visible_line(note), "warn")), width, rest=2)
    return lines


def _draw_end(tuning: Tuning, failure: Failure, width: int) -> list[Line]:
    """Of a tune that has not come to its result: why, and what it has all the same."""
    lines: list[Line] = []
    if tuning.cancelled and not tuning.stop_asked:
        lines += wrap((("▲ ", "warn"), (_GAVE_WAY, "text")), width, rest=2)
    elif not tuning.cancelled:
        lines += wrap((("▲ ", "warn"), (visible_line(failure.what), "strong warn")), width, rest=2)
        lines += wrap((("  ", "text"), (visible_line(failure.why), "text")), width, rest=2)
        lines += wrap((("  → ", "accent"), (visible_line(failure.next), "text")), width, rest=4)
    if tuning.offered is None:
        return lines
    steps = ", ".join(change for trial in tuning.steps for change in trial.changes)
    words = f"{visible_line(steps)}: about {tuning.gain:.2f}× the start, not measured again beside it"
    return [*lines, *wrap((("✓ ", "accent"), ("best so far  ", "muted"), (words, "text")), width, rest=2)]

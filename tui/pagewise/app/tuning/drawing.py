"""Trials as rows, as a plot of rate against memory, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

from pagewise.app.figures import NOT_KNOWN, count, duration, size
from pagewise.app.spans import BLANK, Line, Span, clip, ends, fill, line, wrap
from pagewise.app.tuning.state import Tuning
from pagewise.app.visible import visible_line
from pagewise.jobs.tune import Outcome, Trial

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
    "start": "where you are",
    "better": "better: taken",
    "same": "no difference that can be told",
    "worse": "worse",
    "dropped": "much worse at first sight: dropped",
    "failed": "could not run: one lost trial",
    "ruled out": "ruled out by the plan, nothing was loaded",
}
_GOALS = {
    "chat": "time of one more token",
    "long-prompts": "time to the first token",
    "batch": "time of a whole answer",
}


def draw_head(width: int) -> Line:
    """The names of the columns."""
    return _columns((" ", "muted"), ("what was changed", "muted"), ["TPOT", "TTFT", "gain", "memory"], "muted", width)


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
    what = visible_line(", ".join(trial.changes)) or "the start"
    return _columns(mark, (what, role), cells, role, width)


def _columns(mark: Span, what: Span, cells: Sequence[str], role: str, width: int) -> Line:
    shown = list(cells) if width >= 64 else list(cells[:3])
    sizes = [8, 8, 7, 9][: len(shown)]
    room = width - 3 - sum(sizes) - len(sizes)
    spans: list[Span] = [mark, ("  ", "text"), *fill((what,), room)]
    for text, cell in zip(shown, sizes, strict=True):
        spans.append((" " + text.rjust(cell), role))
    return clip(spans, width)


def draw_state(tuning: Tuning, width: int) -> list[Line]:
    """How far it is, and the best so far."""
    aim = tuning.wanted.aim
    goal = f"{aim.goal}: {_GOALS[aim.goal]}"
    depth = "behind the conversation" if tuning.wanted.in_place else f"at depth {count(aim.depth)}"
    where = f"{count(aim.n_prompt)} + {count(aim.n_output)} tokens {depth}"
    lines = [ends(line(("aim  ", "muted"), (goal, "text")), line((where, "muted")), width)]
    tried = sum(trial.outcome not in ("start", "ruled out") for trial in tuning.trials)
    if tuning.over:
        now: Line = line(("● ", "accent"), (f"done, {count(tried)} trials", "text"))
        left: Line = BLANK
    else:
        whole = tried + tuning.trials_left
        phase = "comparing the best with the start once more" if tuning.ending else visible_line(tuning.phase)
        now = line(
            ("● ", "warn"), (f"trial {count(tried + 1)} of {count(whole)} at most", "text"), (f"  {phase}", "muted")
        )
        left = line((f"about {duration(1000 * tuning.seconds_left)} left" if tuning.seconds_left else "", "muted"))
    lines.append(ends(now, left, width))
    best = tuning.best_trial
    if best is not None and tuning.trials:
        start = tuning.trials[0]
        gain = start.cost / best.cost if start.cost and best.cost else None
        if tuning.result is not None:
            gain = tuning.result.gain
        figures = [f"TPOT {duration(best.tpot_ms)}", f"TTFT {duration(best.ttft_ms)}", size(best.memory_bytes)]
        how = "the start" if best.number == 0 else f"{gain:.2f}× the start" if gain else NOT_KNOWN
        lines.append(
            clip((("best ", "muted"), (how, "strong accent"), ("   ", "text"), (" · ".join(figures), "text")), width)
        )
    return lines


def draw_trial_detail(trial: Trial, width: int) -> list[Line]:
    """Why it was tried, and how sure the figure is."""
    lines = wrap((("why  ", "muted"), (visible_line(trial.why), "text")), width, rest=5)
    told = _WORDS[trial.outcome]
    if trial.gain is not None and trial.low is not None and trial.high is not None:
        pairs = f"{count(trial.pairs)} pair{'s' if trial.pairs != 1 else ''}"
        told += f"; {trial.gain:.3f}× ({trial.low:.3f} to {trial.high:.3f}, {pairs})"
    lines += wrap((("then ", "muted"), (told, "text")), width, rest=5)
    if trial.failure is not None:
        words = f"{trial.failure.what}: {trial.failure.why}"
        lines += wrap((("     ", "text"), (visible_line(words), "warn")), width, rest=5)
    return lines


def draw_result(tuning: Tuning, width: int) -> list[Line]:
    """What was found, with its evidence; or why nothing was."""
    if tuning.failure is not None:
        failure = tuning.failure
        lines = wrap((("▲ ", "warn"), (visible_line(failure.what), "strong warn")), width, rest=2)
        lines += wrap((("  ", "text"), (visible_line(failure.why), "text")), width, rest=2)
        return [*lines, *wrap((("  → ", "accent"), (visible_line(failure.next), "text")), width, rest=4)]
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
    elif not result.notes:
        lines += wrap(
            (("✓ ", "accent"), ("Where you are is as good as anything that was tried.", "text")), width, rest=2
        )
    for note in result.notes:
        lines += wrap((("  ", "text"), (visible_line(note), "warn")), width, rest=2)
    return lines


def draw_plot(trials: Sequence[Trial], best: int, width: int, height: int) -> list[Line]:
    """Tokens a second upwards, memory to the right; the front of the best is drawn through those nothing beats."""
    points = [
        (trial.memory_bytes, 1000 / trial.tpot_ms, trial)
        for trial in trials
        if trial.memory_bytes is not None and trial.tpot_ms
    ]
    if len(points) < 2 or height < 4 or width < 30:
        return []
    axis = max(len(f"{rate:.0f}") for _, rate, _ in points) + 1
    columns, rows = width - axis - 1, height - 2
    low, high = min(memory for memory, _, _ in points), max(memory for memory, _, _ in points)
    if high - low < 0.01 * high:
        return []
    top = max(rate for _, rate, _ in points)
    bottom = min(rate for _, rate, _ in points)
    bottom = max(0.0, bottom - 0.1 * (top - bottom)) if top > bottom else 0.0

    def place(memory: int, rate: float) -> tuple[int, int]:
        across = (memory - low) / (high - low) if high > low else 0.5
        up = (rate - bottom) / (top - bottom) if top > bottom else 1.0
        return round(across * (columns - 1)), rows - 1 - round(up * (rows - 1))

    grid: list[list[Span]] = [[(" ", "text")] * columns for _ in range(rows)]
    for memory, rate, trial in sorted(points, key=lambda point: point[2].outcome == "start"):
        column, row = place(memory, rate)
        on_front = not any(m <= memory and r > rate for m, r, _ in points)
        grid[row][column] = ("•", "accent") if on_front else ("·", "muted")
        if trial.outcome == "start":
            grid[row][column] = ("○", "text")
    for memory, rate, trial in points:
        if trial.number == best:
            column, row = place(memory, rate)
            grid[row][column] = ("●", "strong accent")
    lines: list[Line] = [
        clip((("tok/s against memory   ○ start  ● best  • nothing of its memory is faster", "muted"),), width)
    ]
    for index, cells in enumerate(grid):
        label = f"{top:.0f}" if index == 0 else f"{bottom:.0f}" if index == rows - 1 else ""
        lines.append((*line((label.rjust(axis - 1) + " ", "muted"), ("│", "faint")), *cells))
    lines.append(ends(line((" " * axis + "└ ", "faint"), (size(low), "muted")), line((size(high), "muted")), width))
    return lines

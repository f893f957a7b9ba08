"""A quant level that is not there: what it would weigh, and making it, which goes on when the sheet is closed."""

from __future__ import annotations

from collections.abc import Callable

from pagewise.app.figures import of_size, size
from pagewise.app.gauges.strip import bar
from pagewise.app.jobs import AskedJobs
from pagewise.app.profiles.dial import Level
from pagewise.app.profiles.words import draw_failure
from pagewise.app.spans import Line, Span, clip, line, width_of, wrap
from pagewise.app.visible import visible, visible_line
from pagewise.jobs.base import JobAnswer, JobFailed, JobNews, JobProgress
from pagewise.jobs.quantize import Quantize, Quantized
from pagewise.messages import Failure

_BAR = 28


class Making:
    """At most one level is weighed and one is made at a time. ``made`` is told of each that is done."""

    def __init__(self, jobs: AskedJobs, made: Callable[[Quantized], object]) -> None:
        self._jobs = jobs
        self._made = made
        self._weighed: dict[tuple[str, str], Quantized | Failure] = {}
        self._weighing: tuple[int, Level] | None = None
        self._next: Level | None = None
        self._job: int | None = None
        self._level: Level | None = None
        self._progress: JobProgress | None = None
        self._failure: Failure | None = None
        self._permitted: tuple[str, str] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a level is being made."""
        return self._job is not None

    # ---- what it would weigh ----------------------------------------------------------------------------------------

    def look(self, level: Level) -> None:
        """This level is looked at: find out what it would weigh, unless that is known."""
        if _key(level) in self._weighed:
            return
        self._next = level
        if self._weighing is None:
            self._weigh()
        elif _key(self._weighing[1]) != _key(level):
            self._jobs.stop(self._weighing[0])

    def _weigh(self) -> None:
        level, self._next = self._next, None
        if level is not None and _key(level) not in self._weighed:
            id = self._jobs.ask(
                lambda id: Quantize(id, level.path, level.quant, dry_run=True),
                lambda answer: self._weighed_level(level, answer),
            )
            self._weighing = (id, level)

    def _weighed_level(self, level: Level, answer: JobAnswer) -> None:
        self._weighing = None
        match answer:
            case Quantized():
                self._weighed[_key(level)] = answer
            case JobFailed(cancelled=False, failure=failure):
                self._weighed[_key(level)] = failure
            case _:
                pass
        self._weigh()

    # ---- making it --------------------------------------------------------------------------------------------------

    def make(self, level: Level) -> None:
        """Make it, if that can be; where it asks for consent first, the second call gives it."""
        weighed = self._weighed.get(_key(level))
        if self._job is not None or not isinstance(weighed, Quantized) or weighed.needs_imatrix:
            return
        if weighed.needs_permission and self._permitted != _key(level):
            self._permitted = _key(level)
            return
        self._failure, self._progress, self._level = None, None, level
        self._job = self._jobs.ask(
            lambda id: Quantize(id, level.path, level.quant, allow_requantize=weighed.needs_permission),
            self._ended,
            self._told,
        )

    def stop(self) -> None:
        """Leave off; nothing stays behind."""
        if self._job is not None:
            self._jobs.stop(self._job)

    def _told(self, news: JobNews) -> None:
        if isinstance(news, JobProgress):
            self._progress = news

    def _ended(self, answer: JobAnswer) -> None:
        self._job = None
        match answer:
            case Quantized():
                self._made(answer)
            case JobFailed(cancelled=False, failure=failure):
                self._failure = failure
            case _:
                pass

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def draw_progress(self, width: int) -> list[Line]:
        """How far the one under way is; nothing while none is."""
        if self._job is None or self._level is None:
            return []
        left: list[Span] = [(f"making {visible_line(self._level.quant)}  ", "text")]
        progress = self._progress
        key: Span = ("   S stops it", "muted")
        if progress is None or progress.total <= 0:
            doing = visible_line(progress.phase) if progress is not None else "it begins"
            return [clip((*left, (doing, "muted"), key), width)]
        figures = line((f"  {of_size(progress.done, progress.total)}", "text"))
        room = min(width - width_of(left) - width_of(figures) - len(key[0]), _BAR)
        drawn = bar(progress.done / progress.total, room, "accent") if room >= 6 else ()
        lines = [clip((*left, *drawn, *figures, key), width)]
        return [*lines, clip(((visible_line(progress.detail), "muted"),), width)] if progress.detail else lines

    def draw(self, level: Level, source: str, width: int) -> list[Line]:
        """What making ``level`` of the level ``source`` would come to."""
        weighed = self._weighed.get(_key(level))
        if self._failure is not None and self._level is not None and _key(self._level) == _key(level):
            return draw_failure(self._failure, width)
        name = visible_line(level.quant)
        if isinstance(weighed, Failure):
            return draw_failure(weighed, width)
        if weighed is None:
            return [line((f"{name} is not on this machine: its size is being found…", "muted"))]
        much = f"{size(weighed.bytes)}, {weighed.bits_per_weight:.1f} bits a weight"
        free = f"; {size(weighed.free_bytes)} are free there" if weighed.free_bytes is not None else ""
        lines = wrap(
            ((f"{name} is not on this machine. ", "text"), (f"Made of {source} it has {much}{free}.", "text")), width
        )
        lines += wrap((("it goes to ", "muted"), (visible_line(weighed.path), "muted")), width, rest=11)
        for note in weighed.notes:
            lines += wrap((("▲ ", "warn"), (visible(note), "text")), width, rest=2)
        if weighed.needs_imatrix:
            how = f"pagewise quantize … {name} --imatrix FILE"
            return [*lines, *wrap((("→ ", "accent"), (f"It needs an importance matrix: {how}", "text")), width, rest=2)]
        again = " again" if weighed.needs_permission and self._permitted == _key(level) else ""
        return [*lines, line(("⏎", "value"), (f"{again} makes it", "text"))]


def _key(level: Level) -> tuple[str, str]:
    return level.path, level.quant

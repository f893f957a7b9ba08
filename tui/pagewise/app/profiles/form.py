"""The rows of a form: every key that a profile can have, under the cost of changing it."""

from __future__ import annotations

from pagewise.app.spans import Line, Span, clip, fill, line, wrap
from pagewise.app.visible import visible, visible_line
from pagewise.app.widgets.listing import Listing
from pagewise.profiles.draft import Draft, text_of
from pagewise.profiles.fields import Cost, Field, fields

KEY_WIDTH = 24
ORIGIN_WIDTH = 16
MARK = 2
_GROUPS: tuple[tuple[Cost, str], ...] = (
    ("model", "loads the weights again"),
    ("context", "makes a new context, the weights stay"),
    ("live", "takes effect with the next token"),
)

Entry = Field | tuple[Cost, str]
"""A key, or the heading of a group."""


def entries() -> list[Entry]:
    """Headings and keys, in the order in which they are shown."""
    rows: list[Entry] = []
    for cost, words in _GROUPS:
        rows.append((cost, words))
        rows += [field for field in fields() if field.cost == cost]
    return rows


def value_width(width: int) -> int:
    """Cells of the value's column in a row of ``width``."""
    return max(width - MARK - KEY_WIDTH - ORIGIN_WIDTH, 8)


def draw_entry(entry: Entry, draft: Draft, width: int) -> Line:
    """One row: the key, its value, and where that comes from."""
    if not isinstance(entry, Field):
        return clip(line((entry[0].upper(), "label"), (f"  {entry[1]}", "muted")), width)
    key = entry.key
    origin = draft.origin(key)
    role = "warn" if key in draft.wrong else "muted" if origin == "default" else "text"
    shown = visible_line(draft.text(key)) or "–"
    if entry.choices:
        shown = f"‹ {shown} ›"
    mark: Span = ("▲ ", "warn") if key in draft.wrong else ("", "text")
    value = fill((mark, (shown, role)), value_width(width + MARK) - 1)
    words = {"own": "own", "default": "default", "inherited": f"from {draft.extends}"}.get(origin, "")
    if origin == "changed":
        words = f"was {text_of(draft.before(key)) or 'not set'}"
    if key in draft.wrong:
        words = "not in effect"
    where = role if role == "warn" else {"changed": "accent", "own": "text"}.get(origin, "muted")
    name = (key, "muted" if origin == "default" else "text")
    return (*fill((name,), KEY_WIDTH), *value, (" ", "text"), *fill(((visible_line(words), where),), ORIGIN_WIDTH))


def draw_about(field: Field, draft: Draft, width: int) -> list[Line]:
    """What the chosen key means, what it takes, and what is wrong with what was typed."""
    lines: list[Line] = wrap(((field.key, "strong"), (f"  {visible(field.meaning)}", "text")), width, rest=2)
    wrong = draft.wrong.get(field.key)
    if wrong is not None:
        words = f"{visible(wrong.problem.why)}. "
        rest = "" if field.takes in wrong.problem.next else visible(wrong.problem.next)
        return [*lines, *wrap((("▲ ", "warn"), (words, "warn"), (rest, "text")), width, rest=2)]
    takes: list[Span] = [("takes ", "muted"), (_bare(field.takes), "text")]
    if field.choices:
        now = draft.text(field.key)
        takes = [
            (f"[{choice}]", "strong accent") if choice == now else (f" {choice} ", "muted") for choice in field.choices
        ]
    default = text_of(field.default)
    takes.append((f" · default {default}" if default else " · not set by default", "muted"))
    return [*lines, *wrap(takes, width, rest=2)]


def _bare(takes: str) -> str:
    """Here texts are typed without the quotes that a file wants."""
    return takes if "{" in takes else takes.replace(" in quotes", "").replace('"', "")


class FormRows(Listing):
    """The rows; headings are passed over."""

    def __init__(self) -> None:
        super().__init__("", id="fields")
        self.headings: frozenset[int] = frozenset()

    @property
    def first(self) -> int:
        """The first row that is seen."""
        return self._first

    def move(self, rows: int) -> None:
        """Choose another key."""
        last = len(self._rows) - 1
        target = max(0, min(self.chosen + rows, last))
        by = 1 if rows > 0 else -1
        while target in self.headings and 0 <= target + by <= last:
            target += by
        if target in self.headings:
            self._first = 0
            self.repaint()
            return
        super().move(target - self.chosen)

"""The table of profiles: one line each, in columns that stay where they are."""

from __future__ import annotations

from typing import NamedTuple

from pagewise.app.figures import count, size
from pagewise.app.profiles.plan import ram_bytes, vram_bytes
from pagewise.app.profiles.planner import Shown
from pagewise.app.spans import Line, Span, clip, fill
from pagewise.app.visible import visible_line
from pagewise.messages import ChangeClass
from pagewise.settings import Profile

GUIDE = "guide"
Cell = tuple[str, str, int]
"""Text, role, width."""
_MODEL = 1
"""The column that gives way where there is no room for all."""


class Row(NamedTuple):
    """What one line is made of."""

    profile: Profile
    change: ChangeClass
    quant: str
    shown: Shown


class Columns(NamedTuple):
    """Which columns there is room for. ``vram``: the box has accelerators, so their memory is what is scarce."""

    width: int
    vram: bool

    def cells(self, name: Cell, model: Cell, more: list[tuple[int, Cell]], last: Cell) -> Line:
        """Those of ``more`` whose least width is reached, between the first two and the last."""
        cells = [name, model, *(cell for least, cell in more if self.width >= least), last]
        return _joined(cells, self.width)


def placed(profile: Profile, has_gpu: bool) -> str:
    """Layers on the GPU, as the profile asks for them and the box can give them."""
    layers = profile.n_gpu_layers if has_gpu else 0
    if isinstance(layers, str):
        return "all on GPU" if layers == "all" else layers
    return f"{layers} on GPU" if layers else "CPU"


def model_name(profile: Profile) -> str:
    """The model in a word: the guide, or the file's name."""
    return profile.model.rsplit("/", 1)[-1].removesuffix(".gguf")


def draw_head(columns: Columns) -> Line:
    """The names of the columns."""
    more = [
        (60, ("quant", "muted", 8)),
        (80, ("layers", "muted", 11)),
        (88, (f"{'ctx':>8}", "muted", 8)),
        (66 if columns.vram else 200, (f"{'VRAM':>10}", "muted", 10)),
        (98 if columns.vram else 66, (f"{'RAM':>10}", "muted", 10)),
    ]
    return columns.cells(("profile", "muted", 17), ("model", "muted", 22), more, (" change", "muted", 9))


def draw_row(row: Row, columns: Columns) -> Line:
    """One line. Figures of memory are of its last plan; quiet while a newer one is on its way."""
    profile, plan = row.profile, row.shown.plan
    quiet = "muted" if row.shown.stale else "text"
    over = plan is not None and not plan.fits and not row.shown.stale
    needs = "warn" if over else quiet
    vram = "" if plan is None else size(vram_bytes(plan)) if vram_bytes(plan) else "–"
    ram = "" if plan is None else size(ram_bytes(plan))
    if row.shown.failure is not None:
        vram, ram, needs = "▲ no plan", "", "warn"
        vram, ram = (vram, ram) if columns.vram else (ram, vram)
    if over:
        vram, ram = (f"▲ {vram}", ram) if columns.vram else (vram, f"▲ {ram}")
    context = count(plan.n_ctx) if plan is not None else count(profile.n_ctx) if profile.n_ctx else "max"
    more = [
        (60, (row.quant, "text", 8)),
        (80, (placed(profile, columns.vram), "text", 11)),
        (88, (f"{context:>8}", "text", 8)),
        (66 if columns.vram else 200, (f"{vram:>10}", needs, 10)),
        (98 if columns.vram else 66, (f"{ram:>10}", quiet if columns.vram else needs, 10)),
    ]
    here = row.change == "none"
    return columns.cells(
        (visible_line(profile.name), "text", 17),
        (visible_line(model_name(profile)), "text", 22),
        more,
        (" now" if here else f" {row.change}", "accent" if here else "muted", 9),
    )


def _joined(cells: list[Cell], width: int) -> Line:
    """Cells of fixed widths; where they do not fit, the model gives way."""
    over = sum(room + 1 for _, _, room in cells) - 1 - width
    spans: list[Span] = []
    for index, (text, role, wanted) in enumerate(cells):
        room = max(wanted - over, 6) if index == _MODEL and over > 0 else wanted
        spans += [(" ", "text")] if index else []
        spans += fill(((text, role),), room, role)
    return clip(spans, width)

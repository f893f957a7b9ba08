"""Rows of what can be opened, and what is said of the chosen one."""

from __future__ import annotations

from pathlib import Path

from pagewise.app.catalog import FITS, parameters
from pagewise.app.figures import ago, count, share, size
from pagewise.app.spans import Line, Span, clip, ends, fill, line
from pagewise.app.visible import at_home, visible_line
from pagewise.jobs.catalog import CatalogFile, CatalogModel, Fit
from pagewise.jobs.pull import Offer

_QUANT, _SIZE, _FIT, _PARAMETERS, _SOURCE = 11, 10, 20, 9, 14
_WIDE = 88
"""From this width on there is room for the number of weights and for the source."""
_TYPES = 4


def draw_level(model: CatalogModel, level: CatalogFile, first: bool, here: bool, width: int) -> Line:
    """One quant level; the model's name stands at its first one alone."""
    wide = width >= _WIDE
    right = _QUANT + _SIZE + 2 + _FIT + (_PARAMETERS + _SOURCE if wide else 0)
    name = visible_line(model.name) if first else ""
    spans: list[Span] = [*fill(((name, "text"),), max(width - right - 1, 8)), (" ", "text")]
    if wide:
        spans.append((f"{parameters(model) if first else '':>{_PARAMETERS - 2}}  ", "muted"))
    spans += fill(((visible_line(level.quant), "text"),), _QUANT)
    spans += [(f"{size(level.bytes):>{_SIZE}}  ", "text"), *_fit(level.fit, here)]
    if wide:
        spans += fill(((visible_line(level.source), "muted"),), _SOURCE)
    return clip(spans, width)


def draw_offer(offer: Offer, width: int) -> Line:
    """One quant level that the hub has."""
    right = _SIZE + 2 + _FIT + 1
    parts = f" · {len(offer.files)} parts" if len(offer.files) > 1 else ""
    name = f"{visible_line(offer.files[0])}{parts}"
    left = (*fill(((visible_line(offer.quant) or "–", "value"),), _QUANT + 2), (name, "muted"))
    return clip(
        (
            *fill(left, max(width - right, 8)),
            (f"{size(offer.bytes):>{_SIZE}}  ", "text"),
            *(fill((("here already", "accent"),), _FIT) if offer.kept else _fit(offer.fit, False)),
        ),
        width,
    )


def draw_path(path: Path, width: int) -> Line:
    """A folder or a file."""
    if path.is_dir():
        return line((f"{visible_line(path.name)}/", "muted"))
    try:
        bytes_ = size(path.stat().st_size)
    except OSError:
        bytes_ = ""
    return ends(((visible_line(path.name), "text"),), ((bytes_, "muted"),), width)


def about(model: CatalogModel, level: CatalogFile, now: float) -> list[Line]:
    """Two lines on the chosen quant level: what it is made of, and where it lies."""
    total = sum(part.bytes for part in level.mix)
    mix = "  ".join(f"{part.type} {share(part.bytes, total) or 0:.0f} %" for part in level.mix[:_TYPES])
    bits = f"{level.bits_per_weight:.2f} bits a weight" if level.bits_per_weight is not None else ""
    context = f"context {count(model.n_ctx_train)}" if model.n_ctx_train else ""
    experts = f"{model.n_expert} experts" if model.n_expert else ""
    parts = f"{level.parts} parts" if level.parts > 1 else ""
    copies = sum(copy.takes_space for copy in level.copies)
    also = f"{copies + 1} copies on disk" if copies else ""
    facts = (visible_line(model.architecture), bits, mix, context, experts, parts, also, ago(now - level.modified_s))
    named = f"{visible_line(level.source)}: {visible_line(level.name)}"
    where = at_home(Path(level.path)) if level.source == "folder" else named
    return [
        line((" · ".join(filter(None, facts)), "muted")),
        line((f"▲ {visible_line(level.note)}", "warn")) if level.note else line((where, "muted")),
    ]


def _fit(fit: Fit, here: bool) -> Line:
    if here:
        return fill((("in use", "accent"),), _FIT)
    return fill(((FITS[fit], "warn" if fit == "streams" else "muted"),), _FIT)

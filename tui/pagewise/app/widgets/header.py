"""The first line: which model, how it is placed, under which profile."""

from __future__ import annotations

from pagewise.app.figures import count, percent, share
from pagewise.app.session import Session
from pagewise.app.spans import Line, Span, ends, line, width_of
from pagewise.app.visible import visible_line
from pagewise.app.widgets.painted import Painted


def draw_header(session: Session, width: int) -> Line:
    """The name, the model and the profile, in as many words as the width allows."""
    right = _right(session, width)
    for left in _lefts(session):
        if width_of(left) + width_of(right) + 2 <= width:
            return ends(left, right, width)
    return ends(_lefts(session)[-1], right, width)


def _right(session: Session, width: int) -> Line:
    load = session.load
    if load is not None:
        done = share(load.done_bytes, load.total_bytes) if load.total_bytes else None
        doing = f"loading {visible_line(load.profile.name)}"
        return line((doing, "accent"), (f" {percent(done):>5}" if done is not None else "", "accent"))
    if session.profile is None:
        return line(("no model", "warn")) if session.host is not None else line(("starting", "muted"))
    name = visible_line(session.profile.name)
    released = ("  released", "warn") if session.engine == "released" else ""
    beside = (f"  +{len(session.switches.kept)} held", "muted") if session.switches.kept and width >= 60 else ""
    return line(("profile ", "muted") if width >= 100 else "", (name, "text"), released, beside)


def _lefts(session: Session) -> list[Line]:
    """From the wordiest to the shortest."""
    brand: Span = ("pagewise", "strong accent")
    model = session.model
    if model is None:
        return [(brand,)]
    name = visible_line(model.name)
    layers = model.n_layer + 1
    dot: Span = (" · ", "faint")
    quant = line(dot, (visible_line(model.quant), "text")) if model.quant else ()
    context = line(dot, ("ctx ", "muted"), count(model.n_ctx))
    where = (
        line(dot, f"{model.offloaded_layers} of {layers}", (" layers on GPU", "muted"))
        if model.offloaded_layers
        else line(dot, ("all layers on CPU", "muted"))
    )
    short = (
        line(dot, f"{model.offloaded_layers}/{layers} GPU") if model.offloaded_layers else line(dot, ("CPU", "muted"))
    )
    named: Line = ((name, "strong"),)
    return [
        (brand, ("   ", "text"), *named, *quant, *where, *context),
        (*named, *quant, *where, *context),
        (*named, *quant, *short, *context),
        (*named, *quant, *short),
        (*named, *quant),
        named,
    ]


class Header(Painted):
    """One line at the top of the chat."""

    def __init__(self, session: Session) -> None:
        super().__init__(id="header")
        self._session = session

    def paint(self, width: int, height: int) -> list[Line]:
        """The line."""
        return [draw_header(self._session, width)]

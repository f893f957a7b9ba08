"""``pagewise pull``: a model from the hub, into the cache that other tools share."""

from __future__ import annotations

import sys

from pagewise.app.catalog import FITS, room_in_words
from pagewise.app.figures import rate, size
from pagewise.app.visible import visible_line
from pagewise.commands.job import ask_host
from pagewise.commands.output import as_json
from pagewise.jobs.pull import Brought, Offer, Offers, Pull, Pulled
from pagewise.models.hub.selection import parse_reference

_FIT = max(map(len, FITS.values()))


def run(reference: str, list_only: bool, json: bool) -> int:
    """Fetch or list, write, and return the exit status. Raises HubError where the reference is none."""
    repository, quant = parse_reference(reference)
    pulled = ask_host(lambda id: Pull(id, repository, quant, list_only), Pulled)
    if isinstance(pulled, int):
        return pulled
    brought = pulled.brought
    if json:
        print(as_json(brought))
    elif brought.path is None:
        print("\n".join(_offers(brought.offers)))
    else:
        print(visible_line(brought.path))
        print(_told(brought), file=sys.stderr)
    return 0


def _offers(offers: Offers) -> list[str]:
    repository = visible_line(offers.repository)
    lines = [repository, *(_offer(level) for level in offers.levels)]
    lines += [f"  also: {visible_line(other)}" for other in offers.others]
    if offers.levels:
        first = offers.levels[0]
        example = visible_line(first.quant or first.files[0])
        fits = f"; {room_in_words(offers.room)}, counted without the KV cache" if offers.room else ""
        lines += ["", f"Fetch one: pagewise pull {repository}:{example}{fits}"]
    else:
        lines.append("  no GGUF files: look for a repository of the same model with GGUF in its name")
    return lines


def _offer(level: Offer) -> str:
    parts = f"{len(level.files)} parts" if len(level.files) > 1 else ""
    kept = "here already" if level.kept else ""
    return (
        f"  {visible_line(level.quant) or '-':<12}{size(level.bytes):>10}  {FITS[level.fit]:<{_FIT}}  "
        f"{visible_line(level.files[0])}  {'  '.join(filter(None, (parts, kept)))}"
    ).rstrip()


def _told(brought: Brought) -> str:
    if not brought.fetched_bytes:
        return f"pagewise: {size(brought.bytes)} were here already"
    speed = rate(brought.fetched_bytes / brought.seconds) if brought.seconds > 0 else ""
    return f"pagewise: {size(brought.fetched_bytes)} fetched, {speed}; the checksum is right"

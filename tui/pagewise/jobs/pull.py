"""Models from the hub: what a repository offers, and one quant level of it fetched into the shared cache."""

from __future__ import annotations

from msgspec import Struct

from pagewise.jobs.base import JobAnswer, JobRequest
from pagewise.jobs.catalog import Fit, Room


class Offer(Struct, frozen=True):
    """One quant level of a repository, all parts of a split file together."""

    quant: str
    """As the file's name says it: the tensors are not here yet. Empty where the name says nothing."""
    files: tuple[str, ...]
    """Paths in the repository, in order."""
    bytes: int
    kept: bool
    """Whether the whole of it is in the cache already."""
    fit: Fit = "unknown"
    """By the files' size alone: the KV cache is not counted."""


class Offers(Struct, frozen=True):
    """The GGUF files of a repository. ``others``: projectors and importance matrices."""

    repository: str
    revision: str
    """The commit that was looked at."""
    endpoint: str
    """Address of the hub that was asked."""
    levels: tuple[Offer, ...]
    others: tuple[str, ...]
    room: Room | None = None


class Pull(JobRequest, frozen=True, tag=True):
    """Fetch ``quant`` (a level, or a file's path) of ``repository``; answered by Pulled.

    Where ``quant`` is empty and there are several, and with ``list_only``, nothing is fetched.
    """

    repository: str
    quant: str = ""
    list_only: bool = False


class Brought(Struct, frozen=True, tag=True):
    """What the repository offers, and what was fetched of it."""

    offers: Offers
    path: str | None = None
    """The first part, in the cache: what a profile's ``model`` takes. None: nothing was to be fetched."""
    offer: str = ""
    """Its path in the repository."""
    quant: str = ""
    bytes: int = 0
    fetched_bytes: int = 0
    """Of them what came over the network now; the rest was there."""
    seconds: float = 0.0
    verified: int = 0
    """Files whose checksum was compared with the hub's now."""


class Pulled(JobAnswer, frozen=True, tag=True):
    """What came of Pull ``id``."""

    brought: Brought

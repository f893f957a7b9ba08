"""How far a quant or a KV type is from the best there is: measured once, kept with the trials."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from pagewise.settings import KvType, Profile
from pagewise.tuner.lines import add_line, read_lines, tune_folder

TEXT = Path(__file__).with_name("text.txt")
"""The text that ships with pagewise: prose, talk, figures, code."""


class Subject(Struct, frozen=True):
    """What decides on quality: a file, by what tells it from others, and the types of its KV cache."""

    file: str
    cache_type_k: KvType = "f16"
    cache_type_v: KvType = "f16"

    @property
    def plain(self) -> Subject:
        """The same file with a KV cache in f16."""
        return Subject(self.file)


class Measured(Struct, frozen=True):
    """Mean KL divergence of ``subject`` from ``reference`` on a text, in nats, with its standard error."""

    reference: Subject
    subject: Subject
    text: str
    """What tells the text from others."""
    kl: float
    error: float
    scored: int
    """Tokens that it is a mean of."""
    chunks: int = 0
    """Of the text, that were asked for; a short text has fewer."""


class Divergences:
    """All that were ever measured; a file beside the ledgers. What is not there has to be measured."""

    def __init__(self, text: str, folder: Path | None = None) -> None:
        self.path = (folder or tune_folder()) / "divergences.jsonl"
        self._text = text

    def keep(
        self, reference: Subject, subject: Subject, kl: float, error: float, scored: int, chunks: int = 0
    ) -> Measured:
        """Remember it."""
        measured = Measured(reference, subject, self._text, kl, error, scored, chunks)
        add_line(self.path, measured)
        return measured

    def known(self, reference: Subject, subject: Subject, chunks: int = 0) -> Measured | None:
        """The measurement of the two on most tokens of this text, of those on as many chunks or more."""
        wanted = (reference, subject, self._text)
        found = [
            entry
            for entry in reversed(read_lines(self.path, Measured))
            if (entry.reference, entry.subject, entry.text) == wanted and entry.chunks >= chunks
        ]
        return max(found, key=lambda entry: entry.scored, default=None)


class Part(NamedTuple):
    """One cost of quality: the KV types', or the quant's."""

    reference: Subject
    subject: Subject


def parts(profile: Profile, file: str, best: str) -> tuple[Part, ...]:
    """What a profile costs in quality against ``best``, the best of the files. None of it: nothing."""
    own = Subject(file, profile.cache_type_k, profile.cache_type_v)
    found = []
    if file != best:
        found.append(Part(Subject(best), own.plain))
    if own != own.plain and not _is_fine(profile):
        found.append(Part(own.plain, own))
    return tuple(found)


def text_key(content: bytes, n_ctx: int) -> str:
    """What tells a text, cut into chunks of ``n_ctx`` tokens, from others."""
    return f"{hashlib.sha256(content).hexdigest()[:24]}/{n_ctx}"


def _is_fine(profile: Profile) -> bool:
    """Whether both types hold at least what f16 does, nearly."""
    return {profile.cache_type_k, profile.cache_type_v} <= {"f16", "f32", "bf16"}

"""The catalog: the models that are on the machine already, as models with their quant levels, and what fits here."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.failure import Failure
from pagewise.jobs.base import JobAnswer, JobRequest

KV_CTX = 4096
"""Tokens of context for which the KV cache is counted: a profile's default."""
Fit = Literal["vram", "ram", "both", "streams", "unknown"]
"""Where weights and KV cache have room now: on the accelerators, in RAM, on both together, or not at once (weights
are then streamed from disk). ``unknown``: the file's needs cannot be told."""


class TypeBytes(Struct, frozen=True):
    """All tensors of one type together."""

    type: str
    bytes: int


class Copy(Struct, frozen=True):
    """The same model at another place. ``takes_space``: a second file, not another name of the one file."""

    path: str
    source: str
    name: str
    takes_space: bool


class CatalogFile(Struct, frozen=True):
    """One quant level of a model as it lies on the disk, all parts of a split file together."""

    path: str
    """What a profile's ``model`` takes: the first part."""
    source: str
    """The program or folder that keeps it, such as ``Hugging Face``."""
    name: str
    """What its source calls it, such as ``org/repo`` or ``llama3.2:3b``."""
    quant: str
    """From the tensors, not from the file's name."""
    bits_per_weight: float | None
    mix: tuple[TypeBytes, ...]
    """Bytes by tensor type, the largest first."""
    bytes: int
    parts: int
    modified_s: float
    """Seconds since the epoch."""
    kv_bytes: int | None
    """KV cache at KV_CTX tokens in f16; None: only llama.cpp can tell."""
    fit: Fit = "unknown"
    copies: tuple[Copy, ...] = ()
    note: str = ""
    """What the person should know, such as a name that says another quant."""

    @property
    def need_bytes(self) -> int:
        """Weights and KV cache: an estimate, without compute buffers."""
        return self.bytes + (self.kv_bytes or 0)


class CatalogModel(Struct, frozen=True):
    """One model with its quant levels, the one of most bits first."""

    name: str
    architecture: str
    n_params: int
    n_layer: int | None
    n_ctx_train: int | None
    n_expert: int | None
    levels: tuple[CatalogFile, ...]


class OtherFile(Struct, frozen=True):
    """A GGUF file that is no model by itself."""

    kind: Literal["projector", "imatrix", "adapter", "vocabulary"]
    path: str
    source: str
    name: str
    bytes: int
    modified_s: float
    of: str = ""
    """The model it belongs to, as far as the file says."""


class Unusable(Struct, frozen=True):
    """A file, or a part of a model, that cannot be used."""

    path: str
    source: str
    failure: Failure


class Place(Struct, frozen=True):
    """A folder that was looked through. ``why``: why it, or something in it, could not be read; else empty."""

    source: str
    path: str
    files: int
    why: str = ""


class Room(Struct, frozen=True):
    """Memory of the machine, against which ``fit`` was judged. A figure that cannot be had is None."""

    ram_total_bytes: int
    ram_available_bytes: int
    vram_total_bytes: int | None
    vram_free_bytes: int | None
    """Free now, with what the model in force holds."""


class Catalog(Struct, frozen=True, tag=True):
    """Everything that was found. ``places`` has those that exist, in the order of precedence."""

    models: tuple[CatalogModel, ...]
    others: tuple[OtherFile, ...]
    unusable: tuple[Unusable, ...]
    places: tuple[Place, ...]
    own_folders: str
    """Where the person can name folders of their own."""
    room: Room | None = None
    took_ms: float = 0.0
    read: int = 0
    """Files whose header had to be read; the others were known from the index."""


class FindModels(JobRequest, frozen=True, tag=True):
    """Look for models on the machine; answered by ModelsFound."""


class ModelsFound(JobAnswer, frozen=True, tag=True):
    """What FindModels ``id`` found."""

    catalog: Catalog

"""What one GGUF file is, from its header: the part of it that the catalog keeps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from msgspec import Struct

from pagewise.failure import Failure
from pagewise.jobs.catalog import KV_CTX
from pagewise.models.gguf import GgufError, GgufHeader, Skipped, printable, read_header
from pagewise.models.kv_cache import KvCache, kv_cache
from pagewise.models.quant_level import main_type, stated_level, type_bytes
from pagewise.models.split import part_paths

Kind = Literal["model", "projector", "imatrix", "adapter", "vocabulary"]
_KINDS: dict[str, Kind] = {"mmproj": "projector", "projector": "projector", "imatrix": "imatrix", "adapter": "adapter"}
_LONGEST = 200
_SAMPLES = 16
_SAMPLE = 4096


class Facts(Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a header. Texts are printable; a figure that the header does not have is None."""

    kind: Kind
    architecture: str
    name: str
    stated: str
    """The quant level that the header states, or an empty string."""
    main: str
    """The tensor type of most weights of the layers."""
    types: tuple[tuple[str, int], ...]
    """Bytes by tensor type, the largest first."""
    n_params: int
    tensor_bytes: int
    n_layer: int | None
    n_embd: int | None
    n_vocab: int | None
    n_expert: int | None
    n_ctx_train: int | None
    kv_bytes: int | None
    """KV cache at KV_CTX tokens, f16."""
    part: int
    """Number of this part, counted from 0, of ``parts``."""
    parts: int
    identity: str
    """Equal for files of equal content: header, and samples of the data."""
    lasting: bool = True
    """Whether it can change only with the file itself; not so where another part could not be read."""


class NotUsable(Struct, frozen=True, array_like=True, gc=False):
    """Why a file is not a usable one, in a Failure's words."""

    what: str
    why: str
    next: str
    lasting: bool = True
    """Whether it can change only with the file itself; not so where the system would not let it be read."""

    @property
    def failure(self) -> Failure:
        """The same as a Failure."""
        return Failure(self.what, self.why, self.next)


def read_facts(path: str) -> Facts | NotUsable:
    """Read the header of the file at ``path``. Whatever the file holds, nothing is raised."""
    if not path.lower().endswith(".gguf") and "imatrix" in Path(path).name.lower():
        return _nothing_but("imatrix")
    try:
        header = read_header(path)
        kind = _kind(header)
        whole = _with_other_parts(header)
        cache = kv_cache(whole or header) if kind == "model" else None
        return Facts(
            kind=kind,
            architecture=_short(header.architecture),
            name=_short(header.text("general.name")),
            stated=stated_level(header),
            main=main_type(header.tensors),
            types=tuple(type_bytes(header.tensors).items()),
            n_params=sum(tensor.n_weights for tensor in header.tensors),
            tensor_bytes=sum(tensor.bytes for tensor in header.tensors),
            n_layer=header.number("block_count"),
            n_embd=header.number("embedding_length"),
            n_vocab=_n_vocab(header),
            n_expert=header.number("expert_count"),
            n_ctx_train=header.number("context_length"),
            kv_bytes=cache.bytes_at(KV_CTX) if isinstance(cache, KvCache) else None,
            part=_count(header, "split.no", 0),
            parts=_count(header, "split.count", 1),
            identity=_identity(header),
            lasting=whole is not None,
        )
    except GgufError as error:
        return NotUsable(error.what, error.why, error.next, not isinstance(error.__cause__, OSError))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        what = f"{printable(Path(path).name)} cannot be read"
        why = f"{type(error).__name__}: {error}."
        return NotUsable(what, why, "Fetch the file again.", not isinstance(error, OSError))


def _kind(header: GgufHeader) -> Kind:
    stated = _KINDS.get(header.text("general.type").lower())
    if stated is not None:
        return stated
    if header.architecture in ("clip", "mmproj"):
        return "projector"
    if header.architecture == "imatrix" or any(tensor.name.endswith(".in_sum2") for tensor in header.tensors[:4]):
        return "imatrix"
    if header.text("adapter.type"):
        return "adapter"
    if not header.tensors and _count(header, "split.count", 1) <= 1:
        return "vocabulary"
    return "model"


def _with_other_parts(header: GgufHeader) -> GgufHeader | None:
    """The header with the tensors of all parts, which tell what layers keep; None if a part cannot be read."""
    if _count(header, "split.count", 1) <= 1 or _count(header, "split.no", 0) > 0:
        return header
    try:
        others = [read_header(path) for path in part_paths(header) if path != header.path]
    except GgufError:
        return None
    return header._replace(tensors=(*header.tensors, *(tensor for other in others for tensor in other.tensors)))


def _identity(header: GgufHeader) -> str:
    """A fine-tune may have the very header of its base: some of the weights are looked at too."""
    digest = hashlib.sha256(header.file_bytes.to_bytes(8, "little"))
    with header.path.open("rb") as file:
        left = header.data_start
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        room = header.file_bytes - header.data_start
        for sample in range(_SAMPLES):
            digest.update(os.pread(file.fileno(), _SAMPLE, header.data_start + room * sample // _SAMPLES))
    return digest.hexdigest()[:32]


def _nothing_but(kind: Kind) -> Facts:
    return Facts(kind, "", "", "", "", (), 0, 0, None, None, None, None, None, None, 0, 1, "")


def _count(header: GgufHeader, key: str, otherwise: int) -> int:
    value = header.metadata.get(key, otherwise)
    return value if isinstance(value, int) and 0 <= value <= 100_000 else otherwise


def _n_vocab(header: GgufHeader) -> int | None:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return tokens.entries if isinstance(tokens, Skipped) else header.number("vocab_size")


def _short(text: str) -> str:
    return printable(text.strip())[:_LONGEST]

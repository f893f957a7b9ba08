"""What a GGUF file holds, from its header alone: the facts that ``pagewise inspect`` shows."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from pagewise.models.gguf import GgufHeader, Skipped, Tensor, printable
from pagewise.models.kv_cache import KvCache, kv_cache
from pagewise.models.layers import layer_of, layer_order, layer_ranges
from pagewise.models.quant import FILE_TYPES, TensorType
from pagewise.models.split import read_parts

_GUESSED = 1024


class TypeShare(Struct, frozen=True):
    """All tensors of one type together."""

    type: str
    tensors: int
    weights: int
    bytes: int
    bits_per_weight: float


class ByteRange(Struct, frozen=True):
    """Bytes ``start`` to ``end`` (exclusive) of file number ``file``, counted from 0."""

    file: int
    start: int
    end: int


class LayerBytes(Struct, frozen=True):
    """One layer: its tensors' bytes, without alignment, and where they lie."""

    name: str
    bytes: int
    types: tuple[str, ...]
    ranges: tuple[ByteRange, ...]


class KvBytes(Struct, frozen=True):
    """Bytes of the KV cache, with 16-bit keys and values and with 8-bit ones."""

    kind: str
    layers: int
    sliding_layers: int
    window: int
    recurrent_layers: int
    bytes_per_token_f16: int
    bytes_per_token_q8_0: int
    bytes_per_token_beyond_window_f16: int
    bytes_at_n_ctx_train_f16: int | None


class Inspection(Struct, frozen=True):
    """Everything that is told about a model. A value that the header does not have is None, a text empty."""

    files: tuple[str, ...]
    file_bytes: int
    version: int
    architecture: str
    name: str
    size_label: str
    licence: str
    quant: str
    n_params: int
    tensor_bytes: int
    bits_per_weight: float | None
    types: tuple[TypeShare, ...]
    n_layer: int | None
    n_embd: int | None
    n_head: int | None
    n_head_kv: int | None
    n_ff: int | None
    n_expert: int | None
    n_expert_used: int | None
    n_ctx_train: int | None
    n_vocab: int | None
    tokenizer: str
    chat_template: bool
    kv: KvBytes | None
    kv_unknown: str
    """Why ``kv`` is None."""
    layers: tuple[LayerBytes, ...]
    alignment: int


def inspect(path: Path) -> Inspection:
    """The facts of the model at ``path``, all parts of a split one together. Raises pagewise.models.gguf.GgufError."""
    parts = read_parts(path)
    header = parts[0]._replace(tensors=tuple(tensor for part in parts for tensor in part.tensors))
    tensor_bytes = sum(tensor.bytes for tensor in header.tensors)
    n_params = sum(tensor.n_weights for tensor in header.tensors)
    types = _types(header)
    cache = kv_cache(header)
    n_ctx = header.number("context_length")
    return Inspection(
        files=tuple(printable(str(part.path)) for part in parts),
        file_bytes=sum(part.file_bytes for part in parts),
        version=header.version,
        architecture=printable(header.architecture),
        name=printable(header.text("general.name")),
        size_label=printable(header.text("general.size_label")),
        licence=printable(header.text("general.license")),
        quant=_quant(header, types),
        n_params=n_params,
        tensor_bytes=tensor_bytes,
        bits_per_weight=8 * tensor_bytes / n_params if n_params else None,
        types=types,
        n_layer=header.number("block_count"),
        n_embd=header.number("embedding_length"),
        n_head=header.number("attention.head_count"),
        n_head_kv=header.number("attention.head_count_kv"),
        n_ff=header.number("feed_forward_length"),
        n_expert=header.number("expert_count"),
        n_expert_used=header.number("expert_used_count"),
        n_ctx_train=n_ctx,
        n_vocab=_n_vocab(header),
        tokenizer=printable(" ".join(filter(None, map(header.text, ("tokenizer.ggml.model", "tokenizer.ggml.pre"))))),
        chat_template=bool(header.text("tokenizer.chat_template")),
        kv=_kv_bytes(cache, n_ctx) if isinstance(cache, KvCache) else None,
        kv_unknown=cache if isinstance(cache, str) else "",
        layers=_layers(parts),
        alignment=header.alignment,
    )


def _types(header: GgufHeader) -> tuple[TypeShare, ...]:
    members: dict[TensorType, list[Tensor]] = {}
    for tensor in header.tensors:
        members.setdefault(tensor.type, []).append(tensor)
    shares = (
        TypeShare(
            type=kind.name,
            tensors=len(tensors),
            weights=sum(tensor.n_weights for tensor in tensors),
            bytes=sum(tensor.bytes for tensor in tensors),
            bits_per_weight=kind.bits_per_weight,
        )
        for kind, tensors in members.items()
    )
    return tuple(sorted(shares, key=lambda share: (-share.bytes, share.type)))


def _quant(header: GgufHeader, types: tuple[TypeShare, ...]) -> str:
    number = header.metadata.get("general.file_type")
    stated = FILE_TYPES.get(number & ~_GUESSED) if isinstance(number, int) else None
    return stated or (types[0].type if types else "")


def _n_vocab(header: GgufHeader) -> int | None:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Skipped):
        return tokens.entries
    return header.number("vocab_size")


def _kv_bytes(cache: KvCache, n_ctx: int | None) -> KvBytes:
    return KvBytes(
        kind=cache.kind,
        layers=len(cache.layers),
        sliding_layers=cache.sliding_layers,
        window=cache.window if cache.sliding_layers else 0,
        recurrent_layers=cache.recurrent_layers,
        bytes_per_token_f16=cache.bytes_per_token(),
        bytes_per_token_q8_0=cache.bytes_per_token("q8_0", "q8_0"),
        bytes_per_token_beyond_window_f16=cache.bytes_per_token_beyond(),
        bytes_at_n_ctx_train_f16=cache.bytes_at(n_ctx) if n_ctx and n_ctx > 0 else None,
    )


def _layers(parts: tuple[GgufHeader, ...]) -> tuple[LayerBytes, ...]:
    sizes: dict[str, int] = {}
    ranges: dict[str, list[ByteRange]] = {}
    for number, part in enumerate(parts):
        for layer in layer_ranges(part):
            sizes[layer.name] = sizes.get(layer.name, 0) + layer.bytes
            ranges.setdefault(layer.name, []).extend(ByteRange(number, start, end) for start, end in layer.ranges)
    types = _types_by_layer(parts)
    return tuple(
        LayerBytes(name, sizes[name], types[name], tuple(ranges[name])) for name in sorted(sizes, key=layer_order)
    )


def _types_by_layer(parts: tuple[GgufHeader, ...]) -> dict[str, tuple[str, ...]]:
    sizes: dict[str, dict[str, int]] = {}
    for part in parts:
        for tensor in part.tensors:
            types = sizes.setdefault(layer_of(tensor.name), {})
            types[tensor.type.name] = types.get(tensor.type.name, 0) + tensor.bytes
    return {layer: tuple(sorted(types, key=lambda name: -types[name])) for layer, types in sizes.items()}

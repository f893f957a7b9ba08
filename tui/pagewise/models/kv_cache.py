"""How many bytes a token takes in the KV cache, from the header alone: llama.cpp's own rules for each kind of cache.

Which layers keep keys and values follows llama.cpp 0.5 (``llama-hparams.cpp``, ``llama-kv-cache.cpp`` and the
``load_arch_hparams`` of each architecture): head counts may differ by layer, a sliding window keeps only its last
tokens, layers that share another's cache or are recurrent keep none.
"""

from __future__ import annotations

from typing import NamedTuple

from pagewise.models.gguf import GgufHeader, Skipped
from pagewise.models.quant import TENSOR_TYPES

MAX_LAYERS = 65_536
MAX_WIDTH = 1 << 24
PAD = 256
"""llama.cpp rounds the number of cells up to this."""

_PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "cohere2moe": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma-embedding": 6,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "laguna": 4,
    "llama4": 4,
    "mellum": 4,
    "muse-glimmer": 4,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
"""One layer in so many sees everything, where the file does not say which."""
_FULL_FIRST = frozenset({"cohere2moe", "laguna", "smallthinker"})
"""Of each period the first layer sees everything; elsewhere the last."""
_WINDOWS = {"exaone-moe": 128, "exaone4": 4096, "gemma2": 4096, "llama4": 8192, "smallthinker": 4096}
_FULL_DESPITE_WINDOW = frozenset({"phi3"})
_KV_FROM_START = {"gemma3n": 20}
_OWN_CACHE = frozenset({"deepseek4", "deepseek32", "glm-dsa", "glm5-next", "qwen4exp", "dots3note", "minimax-m3"})

_WEIGHT_BYTES = {kind.name.lower(): kind.bytes / kind.block for kind in TENSOR_TYPES.values()}


class KvLayer(NamedTuple):
    """What one layer keeps for each token: ``k`` and ``v`` values; ``sliding``: only those of the last window."""

    k: int
    v: int
    sliding: bool


class KvCache(NamedTuple):
    """The KV cache that a model needs. ``layers`` has only those that keep something."""

    kind: str
    """``MHA``, ``GQA``, ``MQA``, ``MLA`` or ``none``."""
    layers: tuple[KvLayer, ...]
    window: int
    """Tokens that a sliding layer sees; 0: none is sliding."""
    recurrent_layers: int
    """Layers with a state of fixed size instead, whatever the length of the conversation."""

    @property
    def sliding_layers(self) -> int:
        """How many layers keep only the window."""
        return sum(layer.sliding for layer in self.layers)

    def bytes_per_token(self, type_k: str = "f16", type_v: str = "f16") -> int:
        """Bytes that one more token takes while the sliding layers' windows are not full yet."""
        return round(sum(_layer_bytes(layer, type_k, type_v) for layer in self.layers))

    def bytes_per_token_beyond(self, type_k: str = "f16", type_v: str = "f16") -> int:
        """Bytes that one more token takes once the windows are full."""
        return round(sum(_layer_bytes(layer, type_k, type_v) for layer in self.layers if not layer.sliding))

    def bytes_at(
        self, n_ctx: int, type_k: str = "f16", type_v: str = "f16", *, n_ubatch: int = 512, swa_full: bool = False
    ) -> int:
        """Bytes that llama.cpp sets aside for a context of ``n_ctx`` tokens and one conversation."""
        full = _padded(n_ctx)
        sliding = full if swa_full else min(full, _padded(min(n_ctx, self.window + n_ubatch)))
        return round(
            sum(_layer_bytes(layer, type_k, type_v) * (sliding if layer.sliding else full) for layer in self.layers)
        )


def kv_cache(header: GgufHeader) -> KvCache | str:
    """The KV cache of the model, or one plain sentence that says why it cannot be told from the header."""
    architecture = header.architecture
    if architecture in _OWN_CACHE or header.number("attention.indexer.key_length"):
        return f"{architecture} keeps a cache of its own kind, whose size only llama.cpp can tell"
    n_layer = (header.number("block_count") or 0) - (header.number("nextn_predict_layers") or 0)
    if not 0 < n_layer <= MAX_LAYERS:
        return "the header does not say how many layers there are"
    n_embd = header.number("embedding_length") or 0
    heads = _by_layer(header, "attention.head_count", n_layer) or [0] * n_layer
    heads_kv = _by_layer(header, "attention.head_count_kv", n_layer) or heads
    first_heads = heads[0] or max(heads)
    default = n_embd // first_heads if first_heads > 0 else 0
    key = header.number("attention.key_length") or default
    value = header.number("attention.value_length") or default
    key_sliding = header.number("attention.key_length_swa") or key
    value_sliding = header.number("attention.value_length_swa") or value
    mla = bool(header.number("attention.key_length_mla") and header.number("attention.value_length_mla"))
    widths = (key, value, key_sliding, value_sliding, *heads_kv)
    if max(widths) > MAX_WIDTH or min(*widths, *heads) < 0:
        return "the header's head counts cannot be right"

    window, sliding = _sliding(header, n_layer)
    keeping = _keeping(header, n_layer)
    recurrent = _recurrent(header, n_layer)
    layers: list[KvLayer] = []
    for index in range(n_layer):
        if index >= keeping or heads_kv[index] == 0 or recurrent.get(index) is False:
            continue
        k, v = (key_sliding, value_sliding) if sliding[index] else (key, value)
        layers.append(KvLayer(k * heads_kv[index], 0 if mla else v * heads_kv[index], sliding[index]))
    if not layers and not recurrent:
        return "the header does not say how many attention heads there are"
    return KvCache(_kind(mla, heads, heads_kv, layers), tuple(layers), window, len(recurrent))


def _kind(mla: bool, heads: list[int], heads_kv: list[int], layers: list[KvLayer]) -> str:
    if not layers:
        return "none"
    if mla:
        return "MLA"
    most, most_kv = max(heads), max(heads_kv)
    if most_kv == most:
        return "MHA"
    return "MQA" if most_kv == 1 else "GQA"


def _sliding(header: GgufHeader, n_layer: int) -> tuple[int, list[bool]]:
    architecture = header.architecture
    none = (0, [False] * n_layer)
    stated = header.number("attention.sliding_window")
    window = stated if stated is not None and architecture != "llama4" else _WINDOWS.get(architecture, 0)
    if window <= 0 or stated == 0 or architecture in _FULL_DESPITE_WINDOW:
        return none
    pattern = header.metadata.get(f"{architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and not isinstance(pattern, Skipped):
        return window, [bool(pattern[index]) if index < len(pattern) else False for index in range(n_layer)]
    if architecture in ("lfm2", "lfm2moe"):
        return window, [True] * n_layer
    period = pattern if isinstance(pattern, int) and pattern >= 0 else _PERIODS.get(architecture)
    if period is None:
        return none
    if period == 0:
        return window, [True] * n_layer
    if architecture in _FULL_FIRST:
        return window, [index % period != 0 for index in range(n_layer)]
    return window, [index % period < period - 1 for index in range(n_layer)]


def _keeping(header: GgufHeader, n_layer: int) -> int:
    """Layers from here on use the cache of an earlier one."""
    if header.architecture in _KV_FROM_START:
        return _KV_FROM_START[header.architecture]
    return n_layer - (header.number("attention.shared_kv_layers") or 0)


def _recurrent(header: GgufHeader, n_layer: int) -> dict[int, bool]:
    """Layers that have recurrent tensors, and whether each has attention beside them."""
    attention: set[int] = set()
    recurrent: set[int] = set()
    for tensor in header.tensors:
        parts = tensor.name.split(".", 3)
        if len(parts) < 3 or parts[0] != "blk" or not parts[1].isdecimal():
            continue
        layer = int(parts[1]) if len(parts[1]) < 8 else n_layer
        if layer >= n_layer:
            continue
        if parts[2] in ("attn_k", "attn_kv_a_mqa"):
            attention.add(layer)
        elif parts[2].startswith(("ssm_", "shortconv", "time_mix")):
            recurrent.add(layer)
    return {layer: layer in attention for layer in sorted(recurrent)}


def _by_layer(header: GgufHeader, key: str, n_layer: int) -> list[int] | None:
    value = header.metadata.get(f"{header.architecture}.{key}")
    if isinstance(value, tuple) and not isinstance(value, Skipped):
        counts = [entry if isinstance(entry, int) else 0 for entry in value[:n_layer]]
        return counts + [0] * (n_layer - len(counts))
    return [value] * n_layer if isinstance(value, int) else None


def _layer_bytes(layer: KvLayer, type_k: str, type_v: str) -> float:
    return layer.k * _WEIGHT_BYTES[type_k] + layer.v * _WEIGHT_BYTES[type_v]


def _padded(cells: int) -> int:
    return -(-cells // PAD) * PAD

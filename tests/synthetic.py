"""Makes GGUF files with random weights: real architectures at any size, with a byte-level tokenizer and a template.

The files are only good for running, not for reading: what such a model writes is noise. They are kept in a temporary
folder and made once for each set of parameters.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

Architecture = Literal["llama", "gemma3", "mamba", "lfm2", "ernie4_5-moe", "mystery"]
Weights = Literal["F32", "F16", "Q8_0", "Q4_K", "Q6_K", "Q4_K_M"]

_TYPE_NUMBER = {"F32": 0, "F16": 1, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14}
_FILE_TYPE = {"F32": 0, "F16": 1, "Q8_0": 7, "Q4_K": 15, "Q6_K": 18, "Q4_K_M": 15}
_BLOCK = {"F32": (1, 4), "F16": (1, 2), "Q8_0": (32, 34), "Q4_K": (256, 144), "Q6_K": (256, 210)}
_ALIGNMENT = 32
_CHUNK = 1 << 22
_VERSION = 4

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Shape:
    """A model's shape."""

    architecture: Architecture = "llama"
    n_layer: int = 4
    n_embd: int = 128
    n_ff: int = 256
    n_head: int = 4
    n_head_kv: int = 2
    n_vocab: int = 1024
    n_ctx_train: int = 4096
    weights: Weights = "F16"
    sliding_window: int = 64
    tied: bool = False
    chat_template: str | None = CHATML
    seed: int = 7
    never_ends: bool = True
    """The end-of-generation tokens get such small output rows that greedy and sampled text go on to the limit."""
    heavy_layer: int | None = None
    """This layer's matrices are F32, whatever the others are."""
    n_expert: int = 0
    """Experts of each layer of a mixture; llama and ernie4_5-moe only."""
    n_expert_used: int = 2
    """Of these, how many answer each token."""
    skew: float = 0.0
    """How unevenly the router chooses (ernie4_5-moe): deviation of the bias of each expert, in mean probabilities."""
    gain: float = 1.0
    extra: tuple[tuple[str, int | str], ...] = ()
    """More metadata, such as that of a split."""


class _Tensor:
    def __init__(self, name: str, shape: tuple[int, ...], weights: Weights, fill: str = "random") -> None:
        if weights == "Q4_K_M":
            # As llama-quantize does, nearly: some matrices are worth more bits.
            better = name.startswith(("attn_v", "ffn_down"))
            weights = "Q6_K" if better or name == "output.weight" else "Q4_K"
        self.name, self.shape, self.weights, self.fill = name, shape, weights, fill

    @property
    def n_weights(self) -> int:
        return int(np.prod(self.shape))

    @property
    def bytes(self) -> int:
        weights, size = _BLOCK[self.weights]
        return self.n_weights // weights * size


def make_model(shape: Shape | None = None, /, **changes: Any) -> Path:
    """The path of a GGUF file of this shape; made on first use, then found again."""
    shape = replace(shape or Shape(), **changes)
    key = hashlib.sha256(repr((sorted(asdict(shape).items()), _VERSION)).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pagewise-synthetic-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{shape.architecture}-{shape.n_layer}x{shape.n_embd}-{shape.weights}-{key}.gguf"
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            _write(file, shape)
        Path(name).rename(path)
    return path


def make_hollow(path: Path, shape: Shape | None = None, /, **changes: Any) -> Path:
    """A file of this shape with a true header and a hole for weights: of any size, for what never reads them."""
    shape = replace(shape or Shape(), **changes)
    tensors = list(_tensors(shape))
    with path.open("wb") as file:
        _write_header(file, tensors, _metadata(shape))
        file.truncate(file.tell() + sum(-(-tensor.bytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors))
    return path


def make_quantized(source: Path, quant: str) -> Path:
    """``source`` quantized by llama.cpp to ``quant``, such as ``Q4_K_M``; made on first use."""
    from pagewise.engine.llamacpp import library
    from pagewise.engine.llamacpp.quantize import quantize

    target = source.with_name(f"{source.stem}-{quant}.gguf")
    if not target.exists():
        library.start()
        quantize(source, target, quant)
    return target


def _write(file: IO[bytes], shape: Shape) -> None:
    _write_gguf(file, list(_tensors(shape)), _metadata(shape), shape)


def _write_gguf(file: IO[bytes], tensors: list[_Tensor], metadata: dict[str, Any], shape: Shape) -> None:
    _write_header(file, tensors, metadata)
    random = np.random.default_rng(shape.seed)
    for tensor in tensors:
        for piece in _data(tensor, shape, random):
            file.write(piece)
        file.write(bytes(-tensor.bytes % _ALIGNMENT))


def _write_header(file: IO[bytes], tensors: list[_Tensor], metadata: dict[str, Any]) -> None:
    file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        file.write(_string(key) + _value(value))
    offset = 0
    for tensor in tensors:
        file.write(_string(tensor.name) + struct.pack("<I", len(tensor.shape)))
        file.write(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape))
        file.write(struct.pack("<IQ", _TYPE_NUMBER[tensor.weights], offset))
        offset += -(-tensor.bytes // _ALIGNMENT) * _ALIGNMENT
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if all(isinstance(entry, str) for entry in value):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, in byte order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    extra = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(extra)) for byte in range(256)]


def vocabulary(n_vocab: int) -> tuple[list[str], list[str]]:
    """(tokens, merges): the special tokens, the 256 bytes, then merged pairs, pairs of pairs, and so on."""
    alphabet = byte_alphabet()
    tokens = [*SPECIAL_TOKENS, *alphabet]
    if n_vocab < len(tokens):
        raise ValueError(f"a vocabulary needs at least {len(tokens)} tokens")
    letters = [alphabet[byte] for byte in b" etaoinshrdlucmfwypvbgkjqxz.,"]
    known, merges = set(tokens), []
    left, right = list(letters), list(letters)
    while len(tokens) < n_vocab:
        born = []
        for first in left:
            for second in right:
                merged = first + second
                if merged not in known and len(tokens) < n_vocab:
                    known.add(merged)
                    tokens.append(merged)
                    merges.append(f"{first} {second}")
                    born.append(merged)
        left = born
    return tokens, merges


def _metadata(shape: Shape) -> dict[str, Any]:
    arch = shape.architecture
    tokens, merges = vocabulary(shape.n_vocab)
    head = shape.n_embd // shape.n_head
    own: dict[str, Any] = {
        "block_count": shape.n_layer,
        "context_length": shape.n_ctx_train,
        "embedding_length": shape.n_embd,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    if shape.n_expert:
        own |= {"expert_count": shape.n_expert, "expert_used_count": shape.n_expert_used}
    if arch == "ernie4_5-moe":
        own |= {"expert_feed_forward_length": shape.n_ff, "interleave_moe_layer_step": 1}
    if arch == "gemma3":
        own |= {
            "attention.sliding_window": shape.sliding_window,
            "attention.key_length": head,
            "attention.value_length": head,
        }
    if arch == "mamba":
        own |= {
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 2 * shape.n_embd,
            "ssm.state_size": 16,
            "ssm.time_step_rank": max(1, shape.n_embd // 16),
            "feed_forward_length": 0,
            "attention.head_count": 0,
            "attention.head_count_kv": 0,
        }
    if arch == "lfm2":
        own |= {
            "shortconv.l_cache": 3,
            "attention.head_count_kv": [shape.n_head_kv if layer % 2 else 0 for layer in range(shape.n_layer)],
        }
    metadata: dict[str, Any] = {
        "general.architecture": arch,
        "general.name": f"synthetic {arch}",
        "general.file_type": _FILE_TYPE[shape.weights],
        "general.alignment": _ALIGNMENT,
    }
    metadata |= {f"{arch}.{key}": value for key, value in own.items()}
    metadata |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL_TOKENS) + [1] * (len(tokens) - len(SPECIAL_TOKENS)),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }
    if shape.chat_template is not None:
        metadata["tokenizer.chat_template"] = shape.chat_template
    return metadata | dict(shape.extra)


def _tensors(shape: Shape) -> Iterator[_Tensor]:
    kind, embd = shape.weights, shape.n_embd
    yield _Tensor("token_embd.weight", (embd, shape.n_vocab), kind, "output" if shape.tied else "random")
    for layer in range(shape.n_layer):
        for tensor in _layer(shape, layer):
            tensor.name = f"blk.{layer}.{tensor.name}"
            yield tensor
    norm = "token_embd_norm.weight" if shape.architecture == "lfm2" else "output_norm.weight"
    yield _Tensor(norm, (embd,), "F32", "ones")
    if not shape.tied:
        yield _Tensor("output.weight", (embd, shape.n_vocab), kind, "output")


def _layer(shape: Shape, layer: int) -> Iterator[_Tensor]:
    embd, arch = shape.n_embd, shape.architecture
    kind: Weights = "F32" if layer == shape.heavy_layer else shape.weights
    head = embd // shape.n_head
    yield _Tensor("attn_norm.weight", (embd,), "F32", "ones")
    if arch == "mamba":
        inner, rank, state = 2 * embd, max(1, embd // 16), 16
        yield _Tensor("ssm_in.weight", (embd, 2 * inner), kind)
        yield _Tensor("ssm_conv1d.weight", (4, inner), "F32")
        yield _Tensor("ssm_conv1d.bias", (inner,), "F32")
        yield _Tensor("ssm_x.weight", (inner, rank + 2 * state), kind)
        yield _Tensor("ssm_dt.weight", (rank, inner), "F32")
        yield _Tensor("ssm_dt.bias", (inner,), "F32")
        yield _Tensor("ssm_a", (state, inner), "F32", "decay")
        yield _Tensor("ssm_d", (inner,), "F32", "ones")
        yield _Tensor("ssm_out.weight", (inner, embd), kind)
        return
    if arch == "lfm2" and layer % 2 == 0:
        yield _Tensor("shortconv.conv.weight", (3, embd), "F32")
        yield _Tensor("shortconv.in_proj.weight", (embd, 3 * embd), kind)
        yield _Tensor("shortconv.out_proj.weight", (embd, embd), kind)
    else:
        yield _Tensor("attn_q.weight", (embd, embd), kind)
        yield _Tensor("attn_k.weight", (embd, shape.n_head_kv * head), kind)
        yield _Tensor("attn_v.weight", (embd, shape.n_head_kv * head), kind)
        yield _Tensor("attn_output.weight", (embd, embd), kind)
        if arch in ("gemma3", "lfm2"):
            yield _Tensor("attn_q_norm.weight", (head,), "F32", "ones")
            yield _Tensor("attn_k_norm.weight", (head,), "F32", "ones")
    if arch == "gemma3":
        yield _Tensor("post_attention_norm.weight", (embd,), "F32", "ones")
        yield _Tensor("post_ffw_norm.weight", (embd,), "F32", "ones")
    yield _Tensor("ffn_norm.weight", (embd,), "F32", "ones")
    if shape.n_expert:
        yield _Tensor("ffn_gate_inp.weight", (embd, shape.n_expert), "F32")
        if arch == "ernie4_5-moe":
            yield _Tensor("exp_probs_b.bias", (shape.n_expert,), "F32", "bias")
        yield _Tensor("ffn_gate_exps.weight", (embd, shape.n_ff, shape.n_expert), kind)
        yield _Tensor("ffn_up_exps.weight", (embd, shape.n_ff, shape.n_expert), kind)
        yield _Tensor("ffn_down_exps.weight", (shape.n_ff, embd, shape.n_expert), kind)
        return
    yield _Tensor("ffn_gate.weight", (embd, shape.n_ff), kind)
    yield _Tensor("ffn_up.weight", (embd, shape.n_ff), kind)
    yield _Tensor("ffn_down.weight", (shape.n_ff, embd), kind)


def _data(tensor: _Tensor, shape: Shape, random: np.random.Generator) -> Iterator[bytes]:
    if tensor.fill == "ones":
        yield np.ones(tensor.n_weights, np.float32).tobytes()
        return
    if tensor.fill == "decay":
        yield (-np.exp(random.uniform(-2.0, 1.0, tensor.n_weights))).astype(np.float32).tobytes()
        return
    if tensor.fill == "bias":
        yield (random.standard_normal(tensor.n_weights) * shape.skew / tensor.n_weights).astype(np.float32).tobytes()
        return
    scale = shape.gain / np.sqrt(tensor.shape[0]) if tensor.name != "token_embd.weight" else 1.0
    silent = len(SPECIAL_TOKENS) * tensor.shape[0] if tensor.fill == "output" and shape.never_ends else 0
    if tensor.weights == "Q8_0":
        yield from _q8_0(tensor.n_weights, scale, silent, random)
        return
    if tensor.weights in _K_QUANTS:
        yield from _k_quant(tensor, scale, silent, random)
        return
    dtype = np.float32 if tensor.weights == "F32" else np.float16
    for start in range(0, tensor.n_weights, _CHUNK):
        values = random.standard_normal(min(_CHUNK, tensor.n_weights - start), np.float32) * np.float32(scale)
        if silent > start:
            values[: silent - start] *= np.float32(1e-4)
        yield values.astype(dtype).tobytes()


def _q8_0(n_weights: int, scale: float, silent: int, random: np.random.Generator) -> Iterator[bytes]:
    # Uniform bytes of standard deviation 73.9 stand for a normal distribution of the wanted width.
    block = np.dtype([("d", "<f2"), ("q", "i1", 32)])
    for start in range(0, n_weights, _CHUNK):
        count = min(_CHUNK, n_weights - start) // 32
        blocks = np.empty(count, block)
        blocks["d"] = scale / 73.9
        blocks["q"] = random.integers(-128, 128, (count, 32), np.int8)
        if silent > start:
            blocks["d"][: (silent - start) // 32] = scale / 73.9 * 1e-4
        yield blocks.tobytes()


def make_adapter(path: Path, shape: Shape | None = None, /, rank: int = 4, **changes: Any) -> Path:
    """A LoRA adapter for the model of this shape, written to ``path``: random changes of every ``attn_q``.

    Metadata given as ``adapter_type``, ``general_type`` or ``architecture`` takes the place of what is right;
    ``only`` leaves all tensors out whose name does not end with it.
    """
    own = {key: changes.pop(key) for key in ("adapter_type", "general_type", "only", "target") if key in changes}
    named = changes.pop("named", None)
    shape = replace(shape or Shape(), **changes)
    head = shape.n_embd // shape.n_head
    target = own.get("target", "attn_q")
    rows = shape.n_embd if target == "attn_q" else shape.n_head_kv * head
    tensors = []
    for layer in range(shape.n_layer):
        tensors.append(_Tensor(f"blk.{layer}.{target}.weight.lora_a", (shape.n_embd, rank), "F32"))
        tensors.append(_Tensor(f"blk.{layer}.{target}.weight.lora_b", (rank, rows), "F32"))
    tensors = [tensor for tensor in tensors if tensor.name.endswith(own.get("only", ""))]
    metadata = {
        "general.architecture": named or shape.architecture,
        "general.type": own.get("general_type", "adapter"),
        "general.alignment": _ALIGNMENT,
        "adapter.type": own.get("adapter_type", "lora"),
        "adapter.lora.alpha": float(2 * rank),
    }
    with path.open("wb") as file:
        _write_gguf(file, tensors, metadata, shape)
    return path


_K_QUANTS = {
    # Where the scales lie in a block, and the deviation of a weight whose other bits are random, in its scale.
    "Q4_K": (np.dtype([("d", "<f2"), ("m", "<f2"), ("rest", "u1", 140)]), 257.0),
    "Q6_K": (np.dtype([("rest", "u1", 208), ("d", "<f2")]), 1367.0),
}
_MEAN_OF_Q4 = 7.5


def _k_quant(tensor: _Tensor, scale: float, silent: int, random: np.random.Generator) -> Iterator[bytes]:
    block, deviation = _K_QUANTS[tensor.weights]
    for start in range(0, tensor.n_weights, _CHUNK):
        count = min(_CHUNK, tensor.n_weights - start) // 256
        blocks = np.empty(count, block)
        blocks["d"] = scale / deviation
        if tensor.weights == "Q4_K":
            blocks["m"] = _MEAN_OF_Q4 * scale / deviation
        blocks["rest"] = random.integers(0, 256, blocks["rest"].shape, np.uint8)
        if silent > start:
            for name in set(block.names or ()) - {"rest"}:
                blocks[name][: (silent - start) // 256] = 0
        yield blocks.tobytes()

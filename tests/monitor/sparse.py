"""A GGUF file of any size that takes no room: a true header, and a hole where the weights would be."""

from __future__ import annotations

from pathlib import Path

from tests.models.gguf_bytes import Array, T, gguf


def sparse_model(path: Path, file_bytes: int, n_layer: int = 80) -> Path:
    """Writes it: ``n_layer`` layers of equal size, with an embedding and an output, ``file_bytes`` in all."""
    per_tensor = file_bytes // (n_layer + 2) // 34 // 1024 * 34 * 1024
    shape = (1024, per_tensor // 34 * 32 // 1024)
    names = ["token_embd.weight", *(f"blk.{layer}.ffn_up.weight" for layer in range(n_layer)), "output.weight"]
    metadata = {
        "general.architecture": "llama",
        "general.name": "sparse",
        "general.file_type": 7,
        "llama.block_count": n_layer,
        "llama.context_length": 8192,
        "tokenizer.ggml.tokens": Array(8, [f"token{index}" for index in range(1000)]),
    }
    tensors = [T(name, 8, shape, 0) for name in names]
    head = bytearray(gguf(metadata, tensors))
    at = 0
    # The offsets of the tensors that gguf wrote are those of tensors without bytes.
    for index, name in enumerate(names):
        at = head.index(name.encode(), at) + len(name) + 4 + 8 * len(shape) + 4
        head[at : at + 8] = (index * per_tensor).to_bytes(8, "little")
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + len(names) * per_tensor)
    return path

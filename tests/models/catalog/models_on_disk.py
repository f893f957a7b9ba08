"""GGUF files of a few kilobytes, laid out as the tools people use lay them out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.models.gguf_bytes import T, gguf

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Q4_0, Q4_K, Q6_K, Q8_0, F16, F32 = 2, 12, 14, 8, 1, 0
_ROW = {Q4_0: 144, Q4_K: 144, Q6_K: 210, Q8_0: 272, F16: 512, F32: 1024}
_STATED = {Q4_0: 2, Q4_K: 15, Q6_K: 18, Q8_0: 7, F16: 1, F32: 0}


def model(
    name: str = "Small Model",
    kind: int = Q4_K,
    *,
    stated: int | None = None,
    architecture: str = "llama",
    part: tuple[int, int] | None = None,
    general_type: str = "",
    fill: bytes = b"",
    rows: int = 4,
) -> bytes:
    """A file of two layers whose tensors are of type ``kind``; ``part``: number and count of a split."""
    metadata: dict[str, object] = {
        "general.architecture": architecture,
        "general.name": name,
        "general.file_type": _STATED[kind] if stated is None else stated,
        f"{architecture}.block_count": 2,
        f"{architecture}.embedding_length": 256,
        f"{architecture}.attention.head_count": 4,
        f"{architecture}.context_length": 8192,
    }
    if general_type:
        metadata["general.type"] = general_type
    if part is not None:
        metadata |= {"split.no": part[0], "split.count": part[1]}
    layers = range(2) if part is None else [part[0]]
    tensors = [
        T(f"blk.{layer}.{name}.weight", kind, (256, rows), _ROW[kind] * rows)
        for layer in layers
        for name in ("attn_k", "ffn_up")
    ]
    content = gguf(metadata, tensors)
    return content[: len(content) - len(fill)] + fill


def put(path: Path, content: bytes) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_in_hub(cache: Path, repository: str, files: dict[str, bytes], commit: str = COMMIT) -> Path:
    """A repository in Hugging Face's cache; its snapshot."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for name, content in files.items():
        blob = put(folder / "blobs" / f"{abs(hash(content)):064x}", content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return folder / "snapshots" / commit


def put_in_ollama(root: Path, name: str, layers: dict[str, bytes], host: str = "registry.example") -> Path:
    """A model of Ollama, ``layers`` by the last word of their media type; its manifest."""
    model, _, tag = name.partition(":")
    namespace, _, model = model.rpartition("/")
    manifest: dict[str, object] = {"schemaVersion": 2, "layers": []}
    named = []
    for kind, content in layers.items():
        digest = f"{abs(hash(content)):064x}"
        put(root / "blobs" / f"sha256-{digest}", content)
        media = f"application/vnd.ollama.image.{kind}"
        named.append({"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)})
    manifest["layers"] = named
    path = root / "manifests" / host / (namespace or "library") / model / tag
    return put(path, json.dumps(manifest).encode())

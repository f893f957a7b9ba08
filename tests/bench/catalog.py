"""How long a look at many models takes: the first time, when every header is read, and the second, when none is.

    python -m tests.bench.catalog [--files 10000]

Files are small GGUF files in the layout of Hugging Face's cache: each a link to a blob, four quant levels a model.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.models.gguf_bytes import T, gguf

_LEVELS = {"Q4_K_M": (12, 15, 144), "Q5_K_M": (13, 17, 176), "Q6_K": (14, 18, 210), "Q8_0": (8, 7, 272)}
"""Number of the tensor type, of the file type, and bytes of 256 weights."""


def make_cache(folder: Path, n_files: int) -> None:
    """A cache of ``n_files`` files under ``folder``."""
    for model in range(-(-n_files // len(_LEVELS))):
        repository = folder / f"models--org--model-{model:05d}-GGUF"
        snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
        snapshot.mkdir(parents=True)
        (repository / "blobs").mkdir()
        for level, (kind, file_type, row) in _LEVELS.items():
            blob = repository / "blobs" / f"{model:05d}{level}"
            blob.write_bytes(_model(f"Model {model}", kind, file_type, 4 * row))
            (snapshot / f"model-{model}-{level}.gguf").symlink_to(f"../../blobs/{blob.name}")


def _model(name: str, kind: int, file_type: int, size: int) -> bytes:
    metadata: Mapping[str, object] = {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": file_type,
        "llama.block_count": 2,
        "llama.embedding_length": 256,
        "llama.attention.head_count": 4,
        "llama.context_length": 8192,
    }
    names = (f"blk.{layer}.{part}.weight" for layer in range(2) for part in ("attn_q", "ffn_up"))
    tensors = [T(tensor, kind, (256, 4), size) for tensor in names]
    return gguf(metadata, tensors)


def main() -> None:
    """Make them, look twice, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    n_files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_cache(folder / "hub", n_files)
        environment = {
            "HOME": str(folder / "home"),
            "HF_HUB_CACHE": str(folder / "hub"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PATH": "/usr/bin:/bin",
        }
        for run in ("first", "second", "third"):
            for what, command in (
                ("scan", [sys.executable, "-m", "pagewise.models.catalog"]),
                ("command", [sys.executable, "-m", "pagewise", "models", "--json"]),
            ):
                began = time.perf_counter()
                subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
                print(f"{run:<8}{what:<10}{n_files:>8} files{time.perf_counter() - began:>8.2f} s", flush=True)


if __name__ == "__main__":
    main()

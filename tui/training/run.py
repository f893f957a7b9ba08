"""Everything in one go: corpus, tokenizer, training, export, agreement with llama.cpp, quantization, score."""

from __future__ import annotations

import os
import sys

QUIET = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_TOP_PAD_": "500000000"}
"""Keeps glibc from handing big buffers back to the kernel after every operation, which costs a third of the speed."""


def main() -> None:
    if any(os.environ.get(k) != v for k, v in QUIET.items()):
        os.execve(sys.executable, [sys.executable, "-m", "training.run", *sys.argv[1:]], {**os.environ, **QUIET})
    from training.pipeline import arguments, build

    sys.exit(build(arguments()))


if __name__ == "__main__":
    main()
